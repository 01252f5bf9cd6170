"""The figures: what each shows, by which rule, of how many objects and seeds, and what is found."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from study.labels import NOT_RUN
from study.report.inputs import Inputs
from study.report.views.regression import finding
from study.report.words import WORDS

PICTURES = ("figure1", "figure4", "figure5", "figure7", "figure8")


@dataclass(frozen=True)
class Figure:
    """A figure with its caption. path: its PNG, None if there is none, and `missing` says why.

    alt: what it shows, for those who do not see it. finding: of its statistics, or empty.
    is_photographs: of real images, which stay out of a report.
    """

    name: str
    title: str
    alt: str
    caption: str
    path: Path | None
    missing: str
    finding: str
    is_photographs: bool

    @property
    def short(self) -> str:
        """Its title without what it shows: `Figure 1`."""
        return self.title.partition(":")[0]


def figures(inputs: Inputs) -> list[Figure]:
    """All figures, in the order of the paper; those that were not made say so."""
    found = []
    for name, words in WORDS["figures"].items():
        data, path = inputs.figure_data.get(name), inputs.pictures.get(name)
        photographs = not path and data is not None and name in PICTURES
        missing = photographs_kept_out(inputs.scale) if photographs else NOT_RUN
        found_in = inputs.tables.get("regression") if name == "figure3" else None
        found.append(
            Figure(
                name,
                words["title"],
                words["shown"],
                caption(name, data),
                path,
                missing,
                "" if found_in is None else finding(found_in),
                photographs,
            )
        )
    return found


def photographs_kept_out(scale: str, names: str = "These") -> str:
    """Why there is no picture."""
    return str(WORDS["photographs"].format(names=names, scale=scale))


def caption(name: str, data: pd.DataFrame | None) -> str:
    """What the data beside the figure adds: the rule of choice, n, seeds."""
    if data is None or data.empty:
        return ""
    parts = [str(data["rule"].iloc[0])] if "rule" in data else []
    return " ".join([*parts, *_COUNTS.get(name, _picked)(data)])


def _picked(data: pd.DataFrame) -> list[str]:
    """Of the pictures: how many, and of which run."""
    column = next((c for c in ("annotation_id", "image_id") if c in data), None)
    if column is None:
        return []
    known = data[column].replace("", None).dropna()
    parts = [f"n = {known.nunique()}."]
    runs = [c for c in ("run_opmask", "run_baseline", "run") if c in data]
    names = dict.fromkeys(v for c in runs for v in data[c] if v and v == v and v != NOT_RUN)
    if names:
        parts.append(f"Runs: {', '.join(map(str, names))}.")
    if "seed" in data and len(seeds := pd.to_numeric(data["seed"], errors="coerce").dropna()):
        parts.append(f"Seed {seeds.iloc[0]:.0f}.")
    return parts


def _instance_counts(data: pd.DataFrame) -> list[str]:
    main = data[data["contrast"] == "opmask-maskrcnn"]
    counts = main.groupby(["backbone", "supervised"])["instances"].sum()
    if counts.empty:
        return [NOT_RUN + "."]
    low, high = int(counts.min()), int(counts.max())
    instances = f"{low}" if low == high else f"{low} to {high}"
    return [f"n = {instances} instances a panel.", _seeds(main["seeds"])]


def _seeds(column: pd.Series) -> str:
    low, high = int(column.min()), int(column.max())
    return f"Seeds: {low}." if low == high else f"Seeds: {low} to {high}."


_COUNTS: dict[str, Callable[[pd.DataFrame], list[str]]] = {
    "figure3": lambda data: [
        f"n = {data[['maskrcnn', 'opmask']].notna().any(axis=1).sum()} classes.",
        _seeds(data["seeds"]),
    ],
    "figure6": lambda data: [_seeds(data["seeds"])],
    "ambiguity": _instance_counts,
    "schedule_search": lambda data: [f"Seeds: {data['seed'].nunique()}."],
}
