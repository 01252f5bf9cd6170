"""A region of interest as people choose one: a box of an image, and a class."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Roi:
    """A box (xywh, pixels of the original image) and a contiguous class index."""

    image_id: int
    box: tuple[float, float, float, float]
    category: int
