"""One look for every figure: column width, type size, and a colour-blind-safe palette."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

COLUMN, PAGE = 3.35, 6.9  # inches: one and two columns of the paper

# Okabe and Ito (2008); the same method has the same colour everywhere.
COLOURS = {
    "maskrcnn": "#E69F00",
    "opmask": "#0072B2",
    "maskrcnn7": "#CC79A7",
    "opmask_detached": "#56B4E9",
    "fasterrcnn": "#009E73",
    "truth": "#000000",
    "voc": "#D55E00",
    "nonvoc": "#009E73",
}
LABELS = {
    "maskrcnn": "Mask R-CNN",
    "opmask": "OPMask",
    "maskrcnn7": "Mask R-CNN, 7 convs",
    "opmask_detached": "OPMask, no mask gradients",
    "fasterrcnn": "Faster R-CNN",
    "truth": "ground truth",
}
MARKERS = {"maskrcnn": "s", "opmask": "o", "maskrcnn7": "D", "opmask_detached": "^"}


def new_figure(width: float = COLUMN, height: float = 2.4, **subplots: object) -> tuple:
    """`plt.subplots` at `width` × `height` inches in the project's style."""
    plt.rcParams.update(
        {
            "font.size": 8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "grid.linewidth": 0.5,
            "legend.frameon": False,
            "svg.hashsalt": "opmask",  # the same figure gives the same file
            "svg.fonttype": "none",
        }
    )
    return plt.subplots(figsize=(width, height), layout="constrained", **subplots)


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `folder/name.png` (300 dpi) and `folder/name.svg`, and close the figure."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=300, metadata={"Software": None})
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
