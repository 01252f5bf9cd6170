"""One look for every figure: column width, type size, a colour-blind-safe palette; small files."""

import base64
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from study.labels import MODELS, NOT_RUN

COLUMN, PAGE = 3.35, 6.9  # inches: one and two columns of the paper
DPI = 300
JPEG_QUALITY = 75  # of rasters in an SVG

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
LABELS = MODELS | {"truth": "ground truth"}
MARKERS = {"maskrcnn": "s", "opmask": "o", "maskrcnn7": "D", "opmask_detached": "^"}


def use() -> None:
    """Make the project's style matplotlib's."""
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


def new_figure(width: float = COLUMN, height: float = 2.4, **subplots: Any) -> tuple[Figure, Any]:
    """`plt.subplots` at `width` × `height` inches in the project's style."""
    use()
    return plt.subplots(figsize=(width, height), layout="constrained", **subplots)


def mark_not_run(axes: Axes) -> None:
    """Say so in the middle of a panel."""
    axes.text(0.5, 0.5, NOT_RUN, transform=axes.transAxes, ha="center", va="center")


def common_legend(
    figure: Figure, panels: Iterable[Axes], names: Iterable[str] = (), **look: Any
) -> None:
    """One legend of several panels, each name once: `names`, or all in the order of the panels."""
    found = [axes.get_legend_handles_labels() for axes in panels]
    entries = {name: handle for h, labels in found for handle, name in zip(h, labels, strict=True)}
    if shown := list(names or entries):
        figure.legend([entries[name] for name in shown], shown, fontsize=7, **look)


def save(figure: Figure, folder: Path, name: str, dpi: int = DPI, colours: int = 256) -> None:
    """Write `folder/name.png` and `folder/name.svg`, and close the figure.

    Reports are committed with each change of their numbers, so the files are small: the PNG has a
    palette of `colours`, and the SVG has JPEG where that is smaller and paths to 0.01 points.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=dpi)
    with Image.open(stream) as image:
        palette = image.convert("RGB").quantize(colours, kmeans=1)
    palette.save(folder / f"{name}.png", optimize=True, dpi=(dpi, dpi))
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = _RASTER.sub(_as_jpeg, stream.getvalue().decode())
    text = _PATH.sub(lambda path: _DECIMALS.sub(r"\1", path[0]), text)
    (folder / f"{name}.svg").write_text(text, encoding="utf-8")
    plt.close(figure)


_RASTER = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
_PATH = re.compile(r' d="[^"]+"')
_DECIMALS = re.compile(r"(\.\d\d)\d+")


def _as_jpeg(found: re.Match) -> str:
    """A raster of an SVG as JPEG, unless it is transparent somewhere or smaller as it is."""
    content = base64.b64decode(found[1])
    with Image.open(io.BytesIO(content)) as image:
        if np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
            return found[0]
        stream = io.BytesIO()
        image.convert("RGB").save(stream, "JPEG", quality=JPEG_QUALITY, optimize=True)
    if len(stream.getvalue()) >= len(content):
        return found[0]
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
