"""Turns the picks of `study.analysis.gallery` into sheets of panels: figures 1, 4, 5, 7 and 8."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import cycle
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as mask_util

from opmask.data.coco import Manifest
from opmask.data.images import load
from opmask.evaluation.overlay import INSTANCE_COLOURS
from opmask.evaluation.rois import Roi
from opmask.integrity import verified
from study.analysis.ambiguity import box_window, to_rle
from study.analysis.gallery import box_of
from study.figures import style
from study.figures.gallery import Mark, Panel, crop, square_window
from study.labels import BASELINE, DIRECTIONS, NOT_RUN, OURS
from study.spec.paths import DETECTIONS, WEIGHTS, Paths

ROI_TITLES = ("input", "prior (OMP)", "OPMask", "Mask R-CNN", "ground truth")
IMAGE_TITLES = ("ground truth", "OPMask", "Mask R-CNN")
CONFIDENT = 0.5  # score from which on a detection that found nothing is drawn
_SUPERVISED_COLOUR = "#444444"
_SIDES = {OURS: "opmask", BASELINE: "baseline"}

Maps = Mapping[tuple[str, Roi], NDArray]  # by run key and RoI


@dataclass(frozen=True)
class Sheet:
    """A figure to draw: its picks, and a row of panels with its label a pick."""

    name: str
    picks: pd.DataFrame
    titles: Sequence[str]
    rows: list[list[Panel]]
    labels: list[str]
    width: float = style.COLUMN  # inches


@dataclass(frozen=True)
class Scenes:
    """What there is to draw: the validation set by id, and what the runs in `paths` made of it."""

    images: Mapping[int, Mapping[str, Any]]
    annotations: Mapping[int, Mapping[str, Any]]
    categories: Mapping[int, str]  # names, in the order of the class indices
    folder: Path  # of the images
    paths: Paths
    _detections: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # read so far

    @classmethod
    def of(cls, data: Mapping[str, Any], manifest: Manifest, paths: Paths) -> Self:
        """`data`: the cleaned COCO json of the manifest's validation set."""
        entries = data["images"], data["annotations"], manifest.categories
        images, annotations, categories = ({one["id"]: one for one in part} for part in entries)
        names = {category_id: one["name"] for category_id, one in categories.items()}
        return cls(images, annotations, names, manifest.val.images, paths)

    def picture(self, image_id: int) -> NDArray[np.uint8]:
        """`(H, W, 3)` RGB, upright."""
        return _read(self.folder / self.images[image_id]["file_name"])

    def mask(self, annotation_id: int) -> NDArray[np.bool_]:
        """The true mask, `(H, W)`."""
        annotation = self.annotations[annotation_id]
        image = self.images[annotation["image_id"]]
        return _decode(to_rle(annotation["segmentation"], (image["height"], image["width"])))

    def detections(self, key: str) -> list[dict[str, Any]]:
        """The COCO results of a run."""
        if key not in self._detections:
            path = self.paths.evaluate / key / DETECTIONS
            self._detections[key] = json.loads(verified(path).read_text())
        return self._detections[key]

    def roi(self, image_id: int, box: Sequence[float], category_id: int) -> Roi:
        """A box (xywh, pixels) of a class."""
        x, y, w, h = box
        return Roi(image_id, (x, y, w, h), list(self.categories).index(category_id))

    def priors(self, wanted: Iterable[tuple[str, Roi]]) -> Maps:
        """The priors of RoIs of runs (by key), left out where a run's weights are not there."""
        by_run: dict[str, list[Roi]] = {}
        for key, roi in dict.fromkeys(wanted):
            by_run.setdefault(key, []).append(roi)
        found: dict[tuple[str, Roi], NDArray] = {}
        for key, rois in by_run.items():
            if (self.paths.train / key / WEIGHTS).is_file():
                from opmask.evaluation.priors import prior_maps  # torch, seconds

                maps = prior_maps(self.paths.train / key, rois, self.images, self.folder)
                found |= {(key, roi): one for roi, one in zip(rois, maps, strict=True)}
        return found


@lru_cache(maxsize=32)
def _read(path: Path) -> NDArray[np.uint8]:
    return np.asarray(load(path).convert("RGB"))


def _decode(rle: dict[str, Any]) -> NDArray[np.bool_]:
    return mask_util.decode(rle).astype(bool)


def _key(row: Any, method: str) -> str:
    """The run key of `method` in a pick."""
    return f"{getattr(row, f'run_{_SIDES[method]}')}-{row.seed}"


def prior_of(row: Any, scenes: Scenes) -> tuple[str, Roi]:
    """Run key and RoI of the prior of a pick of figures 1 and 4: OPMask's own detection."""
    key = _key(row, OURS)
    box = scenes.detections(key)[row.detection_opmask]["bbox"]
    return key, scenes.roi(row.image_id, box, row.category_id)


def priors_of(picks: pd.DataFrame, scenes: Scenes) -> list[tuple[str, Roi]]:
    """`prior_of` every pick that shows something."""
    return [prior_of(row, scenes) for row in picks.dropna(subset="image_id").itertuples()]


def roi_sheet(name: str, picks: pd.DataFrame, scenes: Scenes, maps: Maps) -> Sheet:
    """Figures 1 and 4."""
    rows, labels = [], []
    for row in picks.itertuples():
        direction = DIRECTIONS[row.supervised]
        if pd.isna(row.image_id):
            rows.append([Panel(missing=row.pick) for _ in ROI_TITLES])
            labels.append(direction)
            continue
        labels.append(f"{direction}, {row.pick}: {row.category}")
        rows.append(_roi_row(row, scenes, maps))
    return Sheet(name, picks, ROI_TITLES, rows, labels)


def _roi_row(row: Any, scenes: Scenes, maps: Maps) -> list[Panel]:
    box = box_of(row)
    window = square_window(box)
    picture = crop(scenes.picture(row.image_id), window, 255)

    def cut_out(mask: NDArray[np.bool_], method: str, note: str = "") -> Panel:
        return Panel(picture, (crop(mask, window, False), style.COLOURS[method]), note=note)

    def predicted(method: str) -> Panel:
        side = _SIDES[method]
        found = scenes.detections(_key(row, method))[getattr(row, f"detection_{side}")]
        holes = getattr(row, f"perforation_{side}")
        note = f"IoU {getattr(row, f'mask_iou_{side}'):.2f}"
        if pd.notna(holes) and holes >= 0.005:
            note += f"\nholes {100 * holes:.0f}\N{NO-BREAK SPACE}%"
        return cut_out(_decode(found["segmentation"]), method, note)

    prior, place = Panel(), prior_of(row, scenes)
    if place in maps:
        prior = Panel(picture, heat=(maps[place], _shifted(place[1].box, window)))
    note = f"ambiguity {row.ambiguity:.2f}"
    shown = Panel(picture, marks=[Mark(_shifted(box, window))], note=note)
    truth = cut_out(scenes.mask(row.annotation_id), "truth")
    return [shown, prior, predicted(OURS), predicted(BASELINE), truth]


def _shifted(box: Sequence[float], window: tuple[int, int, int]) -> tuple[float, ...]:
    return box[0] - window[0], box[1] - window[1], box[2], box[3]


def image_sheet(name: str, picks: pd.DataFrame, frame: pd.DataFrame, scenes: Scenes) -> Sheet:
    """Figures 5 and 8; `frame` is `ambiguity.csv`.

    An instance has the same colour in every column: in a run's, that of the instance it found. What
    found nothing has a dashed box, if its score is CONFIDENT.
    """
    rows = []
    for row in picks.itertuples():
        picture = scenes.picture(row.image_id)
        panels: list[Panel] = []
        of_image = frame[(frame["image_id"] == row.image_id) & (frame["seed"] == row.seed)]
        for method, side in _SIDES.items():
            instances = of_image[of_image["run"] == getattr(row, f"run_{side}")]
            if not panels:
                panels.append(Panel(picture, marks=_true_marks(instances, scenes)))
            note = f"mean IoU {getattr(row, f'mask_iou_{side}'):.2f}"
            found = scenes.detections(_key(row, method))
            marks = _found_marks(row.image_id, instances, scenes, found)
            panels.append(Panel(picture, marks=marks, note=note))
        rows.append(panels)
    return Sheet(name, picks, IMAGE_TITLES, rows, list(picks["pick"]), style.PAGE)


def _looks(instances: pd.DataFrame) -> list[dict[str, Any]]:
    """Colour of each instance, and whether it is filled: novel ones."""
    colours = cycle(INSTANCE_COLOURS)
    return [
        {"colour": next(colours) if novel else _SUPERVISED_COLOUR, "filled": novel}
        for novel in instances["supervision"] == "novel"
    ]


def _true_marks(instances: pd.DataFrame, scenes: Scenes) -> list[Mark]:
    return [
        Mark(box_of(one), one.category, scenes.mask(one.annotation_id), **look)
        for one, look in zip(instances.itertuples(), _looks(instances), strict=True)
    ]


def _found_marks(
    image_id: int, instances: pd.DataFrame, scenes: Scenes, detections: Sequence[dict[str, Any]]
) -> list[Mark]:
    """What a run found of an image's instances, then the confident that found nothing."""

    def mark(found: Mapping[str, Any], mask: NDArray | None = None, **look: Any) -> Mark:
        name = scenes.categories[found["category_id"]]
        return Mark(found["bbox"], f"{name} {found['score']:.2f}", mask, **look)

    matched = dict(zip(instances["detection"], _looks(instances), strict=True))
    marks = [
        mark(detections[index], _decode(detections[index]["segmentation"]), **look)
        for index, look in matched.items()
        if index >= 0
    ]
    return marks + [
        mark(found, line="--")
        for index, found in enumerate(detections)
        if found["image_id"] == image_id and found["score"] >= CONFIDENT and index not in matched
    ]


def cam_sheet(picks: pd.DataFrame, scenes: Scenes, runs: Mapping[str, str], maps: Maps) -> Sheet:
    """Figure 7: input, a map a method, ground truth; `runs` are run keys by method, "" if not run.

    Its picks have a row a method: run, covered (share of the true mask under the map's cells of
    0.5 or more) and iou (of those cells with the mask), within the box; NaN if not run.
    """
    rows, numbers = [], []
    for row in picks.itertuples():
        box = box_of(row)
        window = square_window(box)
        picture = crop(scenes.picture(row.image_id), window, 255)
        truth = scenes.mask(row.annotation_id)
        line = [Panel(picture, marks=[Mark(_shifted(box, window))])]
        for method, key in runs.items():
            panel, covered, iou = Panel(), np.nan, np.nan
            heat = maps.get((key, scenes.roi(row.image_id, box, row.category_id)))
            if heat is not None:
                covered, iou = map_against_mask(heat, truth, box)
                panel = Panel(picture, heat=(heat, _shifted(box, window)), note=f"IoU {iou:.2f}")
            line.append(panel)
            numbers.append((row.annotation_id, method, covered, iou, key or NOT_RUN))
        line.append(Panel(picture, (crop(truth, window, False), style.COLOURS["truth"])))
        rows.append(line)
    columns = ["annotation_id", "method", "covered", "iou", "run"]
    named = picks.merge(pd.DataFrame(numbers, columns=columns), on="annotation_id")
    labels = [f"{row.pick}: {row.category}" for row in picks.itertuples()]
    names = {m: f"CAM of\n{style.LABELS[m]}" for m in runs} | {OURS: "OMP of\nOPMask"}
    titles = ["input", *(names[method] for method in runs), "ground truth"]
    return Sheet("figure7", named, titles, rows, labels)


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
