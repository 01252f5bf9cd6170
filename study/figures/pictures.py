"""Turns the picks of `study.analysis.gallery` into panels: the cells of figures 1, 4, 5, 7, 8."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as mask_util

from opmask.data.images import load
from opmask.evaluation.overlay import INSTANCE_COLOURS
from opmask.evaluation.rois import Roi
from study.analysis.ambiguity import box_window, to_rle
from study.analysis.gallery import box_of
from study.figures import style
from study.figures.gallery import Outline, Panel, crop, square_window
from study.labels import BASELINE, DIRECTIONS, OURS

ROI_TITLES = ("input", "prior (OMP)", "OPMask", "Mask R-CNN", "ground truth")
IMAGE_TITLES = ("ground truth", "OPMask", "Mask R-CNN")
CONFIDENT = 0.5  # score from which on a detection that found nothing is drawn
_SUPERVISED_COLOUR = "#444444"
_SIDES = {OURS: "opmask", BASELINE: "baseline"}

Maps = Mapping[tuple[str, Roi], NDArray]  # by run key and RoI
Detections = Mapping[str, Sequence[Mapping[str, Any]]]  # by run key


@dataclass(frozen=True)
class Scenes:
    """The validation set's images and annotations, by id."""

    images: Mapping[int, Mapping[str, Any]]
    annotations: Mapping[int, Mapping[str, Any]]
    folder: Path

    @classmethod
    def of(cls, data: Mapping[str, Any], folder: Path) -> Self:
        """From a cleaned COCO json and the folder of its images."""
        images, annotations = data["images"], data["annotations"]
        return cls({i["id"]: i for i in images}, {a["id"]: a for a in annotations}, folder)

    def picture(self, image_id: int) -> NDArray[np.uint8]:
        """`(H, W, 3)` RGB, upright."""
        return _read(self.folder / self.images[image_id]["file_name"])

    def mask(self, annotation_id: int) -> NDArray[np.bool_]:
        """The true mask, `(H, W)`."""
        annotation = self.annotations[annotation_id]
        image = self.images[annotation["image_id"]]
        return _decode(to_rle(annotation["segmentation"], (image["height"], image["width"])))


@lru_cache(maxsize=32)
def _read(path: Path) -> NDArray[np.uint8]:
    return np.asarray(load(path).convert("RGB"))


def _decode(rle: dict[str, Any]) -> NDArray[np.bool_]:
    return mask_util.decode(rle).astype(bool)


def key_of(row: Any, method: str) -> str:
    """The run key of `method` in a pick."""
    return f"{getattr(row, f'run_{_SIDES[method]}')}-{row.seed}"


def prior_roi(row: Any, detections: Detections, class_index: Mapping[int, int]) -> Roi:
    """The RoI whose prior stands in figures 1 and 4: OPMask's own detection."""
    found = detections[key_of(row, OURS)][row.detection_opmask]
    return Roi(row.image_id, tuple(found["bbox"]), class_index[row.category_id])


def wanted_priors(
    picks: Iterable[pd.DataFrame], detections: Detections, class_index: Mapping[int, int]
) -> set[tuple[str, Roi]]:
    """Run key and RoI of every prior in figures 1 and 4."""
    return {
        (key_of(row, OURS), prior_roi(row, detections, class_index))
        for table in picks
        for row in table.itertuples()
        if pd.notna(row.image_id)
    }


def roi_rows(
    picks: pd.DataFrame,
    scenes: Scenes,
    detections: Detections,
    maps: Maps,
    class_index: Mapping[int, int],
) -> tuple[list[list[Panel]], list[str]]:
    """Panels and labels of figures 1 and 4, columns as ROI_TITLES."""
    rows, labels = [], []
    for row in picks.itertuples():
        direction = DIRECTIONS[row.supervised]
        if pd.isna(row.image_id):
            rows.append([Panel(missing=row.pick) for _ in ROI_TITLES])
            labels.append(direction)
            continue
        labels.append(f"{direction}, {row.pick}: {row.category}")
        roi = prior_roi(row, detections, class_index)
        rows.append(_roi_row(row, scenes, detections, maps.get((key_of(row, OURS), roi)), roi))
    return rows, labels


def _roi_row(
    row: Any, scenes: Scenes, detections: Detections, heat: NDArray | None, roi: Roi
) -> list[Panel]:
    box = box_of(row)
    window = square_window(box)
    picture = crop(scenes.picture(row.image_id), window, 255)

    def cut_out(mask: NDArray[np.bool_], method: str, note: str = "") -> Panel:
        return Panel(picture, (crop(mask, window, False), style.COLOURS[method]), note=note)

    def predicted(method: str) -> Panel:
        side = _SIDES[method]
        found = detections[key_of(row, method)][getattr(row, f"detection_{side}")]
        holes = getattr(row, f"perforation_{side}")
        note = f"IoU {getattr(row, f'mask_iou_{side}'):.2f}"
        if pd.notna(holes) and holes >= 0.005:
            note += f"\nholes {100 * holes:.0f}\N{NO-BREAK SPACE}%"
        return cut_out(_decode(found["segmentation"]), method, note)

    prior = Panel()
    if heat is not None:
        prior = Panel(picture, heat=(heat, _shifted(roi.box, window)))
    note = f"ambiguity {row.ambiguity:.2f}"
    shown = Panel(picture, boxes=[(_shifted(box, window), "-")], note=note)
    truth = cut_out(scenes.mask(row.annotation_id), "truth")
    return [shown, prior, predicted(OURS), predicted(BASELINE), truth]


def _shifted(box: Sequence[float], window: tuple[int, int, int]) -> tuple[float, ...]:
    return box[0] - window[0], box[1] - window[1], box[2], box[3]


def image_rows(
    picks: pd.DataFrame, frame: pd.DataFrame, scenes: Scenes, detections: Detections
) -> tuple[list[list[Panel]], list[str]]:
    """Panels and labels of figures 5 and 8, columns as IMAGE_TITLES.

    `frame` is `ambiguity.csv`. An instance has the same colour in every column.
    """
    rows = []
    for row in picks.itertuples():
        panels: list[Panel] = []
        for method in (OURS, BASELINE):
            run, seed = getattr(row, f"run_{_SIDES[method]}"), row.seed
            chosen = frame[(frame["run"] == run) & (frame["seed"] == seed)]
            found = chosen[chosen["image_id"] == row.image_id]
            if not panels:
                masks = [scenes.mask(i) for i in found["annotation_id"]]
                panels.append(_image_panel(row, scenes, found, masks))
            panels.append(_found_panel(row, scenes, found, detections[f"{run}-{seed}"]))
            panels[-1].note = f"mean IoU {getattr(row, f'mask_iou_{_SIDES[method]}'):.2f}"
        rows.append(panels)
    return rows, [row.pick for row in picks.itertuples()]


def _found_panel(
    row: Any, scenes: Scenes, found: pd.DataFrame, detections: Sequence[Mapping[str, Any]]
) -> Panel:
    """What a run found: masks of the matched, boxes of the confident that found nothing."""
    masks = [
        _decode(detections[index]["segmentation"]) if index >= 0 else None
        for index in found["detection"]
    ]
    panel = _image_panel(row, scenes, found, masks)
    matched = set(found["detection"])
    panel.boxes = [
        (d["bbox"], "--")
        for index, d in enumerate(detections)
        if d["image_id"] == row.image_id and d["score"] >= CONFIDENT and index not in matched
    ]
    return panel


def _image_panel(
    row: Any, scenes: Scenes, found: pd.DataFrame, masks: Sequence[NDArray | None]
) -> Panel:
    colours, outlines = cycle(INSTANCE_COLOURS), []
    for supervision, mask in zip(found["supervision"], masks, strict=True):
        novel = supervision == "novel"
        colour = next(colours) if novel else _SUPERVISED_COLOUR  # drawn even if not found
        if mask is not None:
            outlines.append(Outline(mask, colour, filled=novel))
    return Panel(scenes.picture(row.image_id), outlines=outlines)


def cam_rows(
    picks: pd.DataFrame, scenes: Scenes, maps: Mapping[str, Sequence[NDArray]]
) -> tuple[list[list[Panel]], list[str], pd.DataFrame]:
    """Panels and labels of figure 7: input, a map a method, ground truth; and its numbers.

    `maps` has, by method, a map a pick, or nothing if it was not run. Numbers, a row a pick ×
    method: annotation_id, method, covered (share of the true mask under the map's cells of 0.5 or
    more) and iou (of those cells with the mask), within the box; NaN if not run.
    """
    rows, numbers = [], []
    for position, row in enumerate(picks.itertuples()):
        box = box_of(row)
        window = square_window(box)
        picture = crop(scenes.picture(row.image_id), window, 255)
        truth = scenes.mask(row.annotation_id)
        line = [Panel(picture, boxes=[(_shifted(box, window), "-")])]
        for method, found in maps.items():
            covered, iou = np.nan, np.nan
            panel = Panel()
            if len(found):
                covered, iou = map_against_mask(found[position], truth, box)
                heat = found[position], _shifted(box, window)
                panel = Panel(picture, heat=heat, note=f"IoU {iou:.2f}")
            line.append(panel)
            numbers.append((row.annotation_id, method, covered, iou))
        line.append(Panel(picture, (crop(truth, window, False), style.COLOURS["truth"])))
        rows.append(line)
    table = pd.DataFrame(numbers, columns=["annotation_id", "method", "covered", "iou"])
    labels = [f"{row.pick}: {row.category}" for row in picks.itertuples()]
    return rows, labels, table


def cam_titles(runs: Mapping[str, str]) -> list[str]:
    """The columns of figure 7; `runs` are run keys by method, "" if not run."""
    names = {OURS: "OMP of\nOPMask"} | {m: f"CAM of\n{style.LABELS[m]}" for m in runs if m != OURS}
    return ["input", *(names[method] for method in runs), "ground truth"]


def map_against_mask(
    heat: NDArray, truth: NDArray[np.bool_], box: Sequence[float]
) -> tuple[float, float]:
    """(covered, iou) of a map in [0, 1] over an xywh box, cut at 0.5, with a mask `(H, W)`."""
    own = truth[box_window(box, truth.shape)]
    resized = Image.fromarray(heat.astype(np.float32)).resize(
        own.shape[::-1], Image.Resampling.BILINEAR
    )
    shown = np.asarray(resized) >= 0.5
    both, either = (shown & own).sum(), (shown | own).sum()
    return float(both / max(1, own.sum())), float(both / max(1, either))
