"""The figures: what each shows, by which rule, of how many objects and seeds, and what is found."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from study.labels import NOT_RUN
from study.report.inputs import Inputs
from study.report.views.regression import finding
from study.report.words import WORDS

PICTURES = ("figure1", "figure4", "figure5", "figure7", "figure8")
_PICKED = ("annotation_id", "image_id")  # columns of the data of PICTURES
_RUNS = ("run_opmask", "run_baseline", "run")


@dataclass(frozen=True)
class Figure:
    """A figure with its caption. path: its PNG.

    alt: what it shows, for those who do not see it. finding: of its statistics, or empty.
    """

    name: str
    title: str
    alt: str
    caption: str
    path: Path
    finding: str

    @property
    def is_wide(self) -> bool:
        """Whether it is as wide as the page: whole images."""
        return self.name in ("figure5", "figure8")

    @property
    def enlarged(self) -> float:
        """On a screen, against print: pictures, charts."""
        return 2.0 if self.name in PICTURES else 1.5


def figures(inputs: Inputs) -> list[Figure]:
    """Those that were made and show something, in the order of the paper."""
    regression = inputs.tables.get("regression")
    return [
        Figure(
            name,
            words["title"],
            words["shown"],
            caption(data),
            inputs.pictures[name],
            finding(regression) if name == "figure3" and regression is not None else "",
        )
        for name, words in WORDS["figures"].items()
        if name in inputs.pictures and _shows(data := inputs.figure_data.get(name))
    ]


def photographs(inputs: Inputs) -> list[str]:
    """Names of the pictures of real images, which stay out of a report."""
    made = {name: data for name, data in inputs.figure_data.items() if name not in inputs.pictures}
    return [name for name in PICTURES if _shows(made.get(name))]


def kept_out(inputs: Inputs) -> str:
    """Why there are no such pictures; empty if there are none."""
    titles = [WORDS["figures"][name]["title"].partition(":")[0] for name in photographs(inputs)]
    words = str(WORDS["photographs"])
    return words.format(names=", ".join(titles), scale=inputs.scale) if titles else ""


def _shows(data: pd.DataFrame | None) -> bool:
    """Whether the data beside a figure are of any run."""
    if data is None or data.empty:
        return False
    if "seeds" in data:
        return bool(data["seeds"].gt(0).any())
    return bool(_runs(data)) or not set(_RUNS) & set(data)


def caption(data: pd.DataFrame | None) -> str:
    """What the data beside a figure adds: the rule of choice, n, runs, seeds."""
    if data is None:
        return ""
    parts = [str(data["rule"].iloc[0])] if "rule" in data else []
    if "contrast" in data:  # of the ambiguity's chart
        data = data[data["contrast"] == "opmask-maskrcnn"]
        counts = data.groupby(["backbone", "supervised"])["instances"].sum()
        parts.append(f"n = {_range(counts)} instances a panel.")
    elif "maskrcnn" in data and "opmask" in data:  # a class a point
        parts.append(f"n = {data[['maskrcnn', 'opmask']].notna().any(axis=1).sum()} classes.")
    elif column := next((c for c in _PICKED if c in data), None):
        parts.append(f"n = {data[column].replace('', None).nunique()}.")
    if "experiment" in data:
        name = data["experiment"].iloc[0]
        parts.append(f"Of the [experiment {name}](../experiments/{name}/README.md).")
    if names := _runs(data):
        parts.append(f"Runs: {', '.join(names)}.")
    if "seeds" in data:
        parts.append(f"Seeds: {_range(data['seeds'])}.")
    elif "seed" in data:
        numbers = sorted(pd.to_numeric(data["seed"], errors="coerce").dropna().astype(int).unique())
        parts += [f"Seed {', '.join(map(str, numbers))}."] if numbers else []
    return " ".join(parts)


def _runs(data: pd.DataFrame) -> list[str]:
    """Names of the runs that pictures are of."""
    names = [name for column in _RUNS if column in data for name in data[column]]
    return [str(name) for name in dict.fromkeys(names) if name and name == name and name != NOT_RUN]


def _range(numbers: pd.Series) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return f"{low}" if low == high else f"{low} to {high}"
