"""The images that a command line names: files, folders, and the frames of videos."""

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opmask.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_TYPES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")
VIDEO_TYPES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")


@dataclass(frozen=True)
class InputImage:
    """An image to look at: where it is, and its name without type below the output folder."""

    id: int  # in COCO results
    path: Path
    file_name: str  # relative to the folder given; of a frame, VIDEO/NUMBER
    stem: str
    frame: int = 0  # of a video, from 1


def find_images(
    places: Sequence[Path],
    results: Container[Path] = (),
    *,
    recursive: bool = False,
    every: int = 1,
) -> list[InputImage]:
    """The files among `places` and the images in the folders among them, in their order.

    results: of earlier predictions, which may lie in such a folder and are left out.
    recursive: also images in the folders below.
    every: of a video, which has to be named itself, every so many frames.

    Raises:
        UserError: a place does not exist, there is no image at all, or two have one name.
    """
    found = [one for place in places for one in _at(place, results, recursive, every)]
    found = list(dict.fromkeys(found))
    if not found:
        below = "" if recursive else " (-r also looks in the folders below)"
        types = ", ".join(IMAGE_TYPES)
        raise UserError(f"{', '.join(map(str, places))}: no image{below}; looked for {types}")
    stems = Counter(name.with_suffix("") for _, name, _ in found)
    images = []
    for number, (path, name, frame) in enumerate(found, start=1):
        alone = stems[name.with_suffix("")] == 1  # else a.jpg and a.png would be one
        stem = name.with_suffix("") if alone else name
        images.append(InputImage(number, path, name.as_posix(), stem.as_posix(), frame))
    _require_one_of_each_name(images)
    return images


def _require_one_of_each_name(images: Sequence[InputImage]) -> None:
    first: dict[str, InputImage] = {}
    for image in images:
        other = first.setdefault(image.stem, image)
        if other is not image:
            raise UserError(
                f"{other.path}, {image.path}: both would be {image.stem} in the output folder; "
                "predict their folders one by one"
            )


def _at(
    place: Path, results: Container[Path], recursive: bool, every: int
) -> Iterator[tuple[Path, Path, int]]:
    """Each image's path, its name relative to the folder given, and which frame it is."""
    if place.is_file() and place.suffix.lower() in VIDEO_TYPES:
        for number in range(1, _frame_count(place) + 1, every):
            yield place, Path(place.name, f"{number:06}"), number
    elif place.is_file():
        yield place, Path(place.name), 0
    elif place.is_dir():
        for path in sorted(place.rglob("*") if recursive else place.iterdir()):
            is_image = path.suffix.lower() in IMAGE_TYPES and path.is_file()
            if is_image and path not in results:
                yield path, path.relative_to(place), 0
    else:
        raise UserError(f"{place}: no such image, video or folder")


def _frame_count(video: Path) -> int:
    """By going through it: what a video says of itself is often wrong."""
    import cv2

    capture, count = cv2.VideoCapture(str(video)), 0
    while capture.grab():
        count += 1
    if not count:
        raise UserError(f"{video}: no video that OpenCV can read")
    return count


class Reader:
    """Gives what a `Predictor` takes of each image; frames of a video in their order."""

    def __init__(self) -> None:
        self._video: Path | None = None
        self._capture: Any = None
        self._at = 0

    def __call__(self, image: InputImage) -> "Path | NDArray":
        """The file's path, or of a frame `(H, W, 3)` RGB; UserError if the frame is damaged."""
        if not image.frame:
            return image.path
        import cv2

        if image.path != self._video or image.frame <= self._at:
            self._capture = cv2.VideoCapture(str(image.path))
            self._video, self._at = image.path, 0
        while self._at < image.frame and self._capture.grab():
            self._at += 1
        good, pixels = self._capture.retrieve()
        if not good:
            raise UserError(f"{image.path}: frame {image.frame} cannot be read")
        return pixels[..., ::-1]
