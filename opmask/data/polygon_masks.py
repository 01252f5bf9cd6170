"""Mask targets out of polygons, for all RoIs of an image at once.

detectron2 copies and checks every polygon each time that RoIs are selected, and draws a RoI at a
time. With 16 images of 512 RoIs each that is a tenth of a second and more in every step, in which a
GPU waits. The targets here are the same to the pixel: pycocotools draws them either way.
"""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.structures import PolygonMasks
from numpy.typing import NDArray
from pycocotools import mask as mask_util
from torch import Tensor

Polygons = Sequence[Sequence[NDArray[np.float64]]]  # by instance, each [x0, y0, x1, y1, …]


class SharedPolygonMasks(PolygonMasks):
    """detectron2's `PolygonMasks`, whose selections share their polygons: do not change these.

    A selection by indices stays on their device: nobody waits for a GPU before targets are drawn.
    """

    _rows: Tensor | None = None  # of `_all`, where not all of them, on any device

    @property
    def polygons(self) -> Polygons:
        """Of each instance of the selection."""
        rows = range(len(self._all)) if self._rows is None else self._rows.tolist()
        return [self._all[row] for row in rows]

    @polygons.setter
    def polygons(self, given: Polygons) -> None:
        self._all, self._rows = given, None

    def __len__(self) -> int:
        return len(self._all if self._rows is None else self._rows)

    def __getitem__(self, item: int | slice | list[int] | Tensor) -> "SharedPolygonMasks":
        if not isinstance(item, Tensor):
            item = torch.arange(len(self))[item].view(-1)
        elif item.dtype == torch.bool:
            item = item.nonzero()[:, 0]
        selected = SharedPolygonMasks([])
        selected._all = self._all
        selected._rows = item if self._rows is None else self._rows.to(item.device)[item]
        return selected

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Bool `(N, mask_size, mask_size)` on the device of `boxes`, `(N, 4)`: one an instance."""
        if len(boxes) != len(self):
            raise ValueError(f"{len(boxes)} boxes for {len(self)} masks")
        rows = torch.arange(len(self)) if self._rows is None else self._rows
        # One transfer for both: rows are exact in float64.
        both = torch.cat([boxes.detach().double(), rows.to(boxes.device)[:, None]], dim=1)
        values = both.cpu().numpy()
        own = [self._all[int(row)] for row in values[:, 4]]
        drawn = draw_in_boxes(own, values[:, :4].astype(np.float32), mask_size)
        return torch.from_numpy(drawn).to(boxes.device, non_blocking=True)


def draw_in_boxes(polygons: Polygons, boxes: NDArray[np.float32], size: int) -> NDArray[np.bool_]:
    """Each instance as seen in its box, `(N, size, size)`.

    Args:
        polygons: in pixels of the image.
        boxes: `(N, 4)`, x0, y0, x1, y1 in pixels; a side is taken to be 0.1 long at least.
    """
    drawn = np.zeros((len(boxes), size, size), dtype=bool)
    parts = [part for instance in polygons for part in instance]
    if not parts:
        return drawn
    counts = np.array([len(instance) for instance in polygons])
    lengths = np.array([len(part) // 2 for part in parts])
    box_of_point = np.repeat(np.repeat(np.arange(len(boxes)), counts), lengths)
    scale = size / np.maximum(boxes[:, 2:] - boxes[:, :2], np.float32(0.1))
    points = np.concatenate(parts).reshape(-1, 2)
    points = (points - boxes[box_of_point, :2]) * scale[box_of_point]
    scaled = [part.ravel() for part in np.split(points, lengths.cumsum()[:-1])]
    rles = mask_util.frPyObjects(scaled, size, size)
    ends = counts.cumsum()
    whole = [
        rles[start] if end - start == 1 else mask_util.merge(rles[start:end])
        for start, end in zip(ends - counts, ends, strict=True)
        if end > start
    ]
    drawn[counts > 0] = mask_util.decode(whole).transpose(2, 0, 1)
    return drawn
