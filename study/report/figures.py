"""The figures with their captions and what was found in them."""

from dataclasses import dataclass

import pandas as pd

from study.labels import NOT_RUN
from study.report import ambiguity_page
from study.report.captions import PICTURES, SHOWN, caption
from study.report.inputs import Inputs
from study.report.pictures import Picture, embed
from study.report.regression_page import finding

ENLARGED = {True: 2.0, False: 1.5}  # on a screen, against print: pictures, charts


@dataclass(frozen=True)
class Figure:
    """A figure with its caption. picture: None if there is none, and `missing` says why.

    alt: what it shows, for those who do not see it. findings: sentences of its statistics.
    """

    name: str
    title: str
    alt: str
    caption: str
    picture: Picture | None
    missing: str
    findings: tuple[str, ...] = ()


def figures(inputs: Inputs) -> list[Figure]:
    """All figures, in the order of the paper; those that were not made say so."""
    found = []
    for name, (title, shown) in SHOWN.items():
        data = inputs.figure_data.get(name)
        path = inputs.pictures.get(name)
        found.append(
            Figure(
                name,
                title,
                alt=shown,
                caption=caption(name, data),
                picture=embed(path, ENLARGED[name in PICTURES]) if path else None,
                missing="" if path else _missing(name, data, inputs.scale),
                findings=_findings(name, inputs),
            )
        )
    return found


def _missing(name: str, data: pd.DataFrame | None, scale: str) -> str:
    if data is None or name not in PICTURES:
        return NOT_RUN
    return (
        "These are photographs and not part of the report; the pipeline leaves them in "
        f"`runs/{scale}/figures/`."
    )


def _findings(name: str, inputs: Inputs) -> tuple[str, ...]:
    """The sentences that go with a figure's statistics."""
    if name == "figure3" and "regression" in inputs.tables:
        return (finding(inputs.tables["regression"]),)
    if name == "ambiguity" and "ambiguity" in inputs.tables:
        return tuple(ambiguity_page.sentences(inputs.tables["ambiguity"]))
    return ()
