"""What each figure shows, by which rule, of how many objects and seeds."""

from collections.abc import Callable

import pandas as pd

from study.labels import NOT_RUN

PICTURES = ("figure1", "figure4", "figure5", "figure7", "figure8")
# In the order of the page: title, what it shows.
SHOWN = {
    "figure1": (
        "Figure 1: ambiguous regions",
        "Rows are regions of interest in which other instances cover much of the box: the input, "
        "OPMask’s prior as a heat map, OPMask’s mask, the baseline’s mask, the true mask.",
    ),
    "figure3": (
        "Figure 3: class overlap against mask AP",
        "Two scatter plots, Mask R-CNN above OPMask. A point is a class: its mask AP "
        "where it is novel, against the mean IoU of its boxes with others. Lines are least-squares "
        "fits with their 95 % band; the classes of largest relative improvement are named.",
    ),
    "figure4": (
        "Figure 4: perforated masks",
        "Rows are regions of interest where a mask has holes that the object has not: the input, "
        "OPMask’s prior as a heat map, OPMask’s mask, the baseline’s mask, the true mask.",
    ),
    "figure5": (
        "Figure 5: whole images, voc → non-voc",
        "Rows are images: the true masks, OPMask’s and the baseline’s; novel classes filled.",
    ),
    "figure6": (
        "Figure 6: number of supervised classes",
        "Mask AP of both methods with 95 % intervals against 20, 40, 60 and 80 classes with masks "
        "in training, and OPMask’s gain below. Each point is tested on its own novel classes (all "
        "80 at full supervision); the dotted lines are AP on all 80 classes.",
    ),
    "figure7": (
        "Figure 7: class activation maps",
        "Rows are objects from small to large: class activation maps of a Faster R-CNN and of a "
        "Mask R-CNN, and OPMask’s prior, as heat maps over the picture.",
    ),
    "figure8": (
        "Figure 8: whole images, non-voc → voc",
        "Rows are images: the true masks, OPMask’s and the baseline’s; novel classes filled.",
    ),
    "ambiguity": (
        "The gain where regions are ambiguous (not in the paper)",
        "Gain in mask IoU over the baseline, with 95 % intervals, against the share of the box "
        "that other instances cover: OPMask, and the control with its deeper mask head but no "
        "prior. A panel a backbone and direction; instances of novel classes that both found.",
    ),
    "schedule_search": (
        "The schedule search (section 4.5)",
        "Mask AP of novel and of supervised classes on held-out training images against the "
        "iteration, one panel a direction. A star marks the iteration that is best for novel "
        "classes, a dotted line the step of the learning rate.",
    ),
}


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


def _regression_counts(data: pd.DataFrame) -> list[str]:
    classes = int(data[["maskrcnn", "opmask"]].notna().any(axis=1).sum())
    return [f"n = {classes} classes.", _seeds(data["seeds"])]


def _class_counts(data: pd.DataFrame) -> list[str]:
    return [_seeds(data["seeds"])]


def _instance_counts(data: pd.DataFrame) -> list[str]:
    main = data[data["contrast"] == "opmask-maskrcnn"]
    counts = main.groupby(["backbone", "supervised"])["instances"].sum()
    if counts.empty:
        return [NOT_RUN + "."]
    low, high = int(counts.min()), int(counts.max())
    instances = f"{low}" if low == high else f"{low} to {high}"
    return [f"n = {instances} instances a panel.", _seeds(main["seeds"])]


def _search_counts(data: pd.DataFrame) -> list[str]:
    return [f"Seeds: {data['seed'].nunique()}."]


def _seeds(column: pd.Series) -> str:
    low, high = int(column.min()), int(column.max())
    return f"Seeds: {low}." if low == high else f"Seeds: {low} to {high}."


_COUNTS: dict[str, Callable[[pd.DataFrame], list[str]]] = {
    "figure3": _regression_counts,
    "figure6": _class_counts,
    "ambiguity": _instance_counts,
    "schedule_search": _search_counts,
}
