"""Finds objects in your images with a trained run, and draws or writes them.

--format overlay  a picture of every image with masks, boxes, classes and scores
--format coco     detections.json, COCO results with file names, and images.json beside it
--format png      a folder for every image with a black-and-white mask an object

In the output folder only files that an earlier prediction wrote there, and nobody changed since,
are replaced; a record there, .opmask-predict, says which. Else nothing is written.
"""

import argparse
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opmask.errors import UserError, main
from opmask.outputs import Outputs

if TYPE_CHECKING:  # they take seconds to import
    from numpy.typing import NDArray

    from opmask.evaluation.predictor import Prediction, Predictor

FORMATS = ("overlay", "coco", "png")
MASK = re.compile(r"\d{2,}_.*_\d\.\d\d\.png")  # names of `save_masks`
IMAGE_TYPES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class InputImage:
    """An image to look at: where it is, and its name without type below the output folder."""

    id: int  # in COCO results
    path: Path
    file_name: str  # relative to the folder given
    stem: str


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m opmask.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Unreadable images are skipped and named at the end.",
    )
    parser.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE_OR_FOLDER", help="folders with all below"
    )
    parser.add_argument(
        "--run", type=Path, required=True,
        help="folder that training left, runs/<scale>/train/<run>, or a file of weights in it",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="default %(default)s")
    parser.add_argument(
        "--format", choices=FORMATS, action="append", help="default overlay; may be repeated"
    )
    parser.add_argument(
        "--prior", action="store_true",
        help="overlay: beside it the object mask prior of every box as a heat map, of runs "
        "without one the class activation map",
    )  # fmt: skip
    parser.add_argument(
        "--threshold", type=float, default=0.5, metavar="SCORE", help="default %(default)s"
    )
    parser.add_argument("--device", default="auto", help="cpu or cuda; default a GPU if there is")
    args = parser.parse_args(argv)
    args.format = tuple(dict.fromkeys(args.format or ["overlay"]))
    if not 0 <= args.threshold <= 1:
        raise UserError(f"--threshold: {args.threshold:g} is not between 0 and 1")
    if args.prior and "overlay" not in args.format:
        raise UserError("--prior: is drawn with --format overlay only")
    return args


@main
def run(argv: Sequence[str]) -> None:
    """Command line: predict, report what was skipped."""
    args = arguments(argv)
    outputs = Outputs(args.out)
    images = find_images(args.images, outputs)
    check_outputs(outputs, images, args.format)
    try:  # takes seconds: after the arguments are good
        from opmask.evaluation.predictor import Predictor
        from opmask.evaluation.trained import find_trained
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "detectron2":
            raise
        raise UserError(
            "detectron2 is not installed: install official main, or 'opmask[detectron2]'"
        ) from error

    predictor = Predictor(find_trained(args.run, args.device), args.threshold, priors=args.prior)
    if "png" in args.format and not predictor.has_masks:
        raise UserError(f"--format png: {args.run} has no mask head")
    skipped = write_all(predictor, images, outputs, args.format)
    print(f"{len(images) - len(skipped)} of {len(images)} image(s) done: {args.out}")
    for reason in skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    if skipped:
        sys.exit(1)


def find_images(places: Sequence[Path], results: Container[Path] = ()) -> list[InputImage]:
    """The files among `places` and all images in the folders among them, in their order.

    results: of earlier predictions, which may lie in such a folder and are left out.

    Raises:
        UserError: a place does not exist, there is no image at all, or two have one name.
    """
    found = list(dict.fromkeys(pair for place in places for pair in _below(place, results)))
    if not found:
        types = ", ".join(IMAGE_TYPES)
        raise UserError(f"{', '.join(map(str, places))}: no image; looked for {types}")
    stems = Counter(name.with_suffix("") for _, name in found)
    images = []
    for number, (path, name) in enumerate(found, start=1):
        alone = stems[name.with_suffix("")] == 1  # else a.jpg and a.png would be one
        stem = name.with_suffix("") if alone else name
        images.append(InputImage(number, path, name.as_posix(), stem.as_posix()))
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


def check_outputs(outputs: Outputs, images: Sequence[InputImage], formats: Sequence[str]) -> None:
    """Raises UserError, before anything is written, if any result may not be."""
    outputs.protect(image.path for image in images)
    names = ["images.json", "detections.json"] if "coco" in formats else []
    folders = []
    if "overlay" in formats:
        names += [f"{image.stem}.png" for image in images]
    if "png" in formats:
        folders = [image.stem for image in images]
        there = (path for stem in folders for path in sorted((outputs.folder / stem).glob("*")))
        names += [
            path.relative_to(outputs.folder).as_posix()
            for path in there
            if MASK.fullmatch(path.name)
        ]
    outputs.check(names, folders)


def _below(place: Path, results: Container[Path]) -> Iterator[tuple[Path, Path]]:
    """Each image's path, and its name relative to the folder given."""
    if place.is_file():
        yield place, Path(place.name)
    elif place.is_dir():
        for path in sorted(place.rglob("*")):
            is_image = path.suffix.lower() in IMAGE_TYPES and path.is_file()
            if is_image and path not in results:
                yield path, path.relative_to(place)
    else:
        raise UserError(f"{place}: no such image or folder")


def write_all(
    predictor: "Predictor", images: Sequence[InputImage], outputs: Outputs, formats: Sequence[str]
) -> list[str]:
    """Predict and write every image; the reasons for those that cannot be read."""
    from tqdm import tqdm

    skipped: list[str] = []
    records: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image in tqdm(images, "predict", unit="img", disable=None):
        try:
            found = predictor(image.path, image.id)
        except UserError as error:
            skipped.append(str(error))
            continue
        records.append({"id": image.id, "file_name": image.file_name, **found.size})
        detections += [{**d, "file_name": image.file_name} for d in found.detections]
        if "overlay" in formats:
            outputs.write(f"{image.stem}.png", as_png(found.overlay()))
        if "png" in formats:
            save_masks(found, outputs, image.stem)
    if "coco" in formats:
        categories = predictor.categories
        content = {"images": records, "annotations": [], "categories": categories}
        outputs.write("images.json", json.dumps(content).encode())
        outputs.write("detections.json", json.dumps(detections).encode())
    return skipped


def as_png(pixels: "NDArray") -> bytes:
    """The file of an array `(H, W)` or `(H, W, 3)` of uint8."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def save_masks(found: "Prediction", outputs: Outputs, folder: str) -> None:
    """`NN_<class>_<score>.png` for every detection, 255 inside, of the image's size."""
    files = {}
    for number, (name, score, mask) in enumerate(found.masks(), start=1):
        safe = re.sub(r"[^\w]+", "-", name)
        files[f"{folder}/{number:02}_{safe}_{score:.2f}.png"] = as_png(255 * mask)
    outputs.remove_others(folder, files, MASK)
    for name, content in files.items():
        outputs.write(name, content)


if __name__ == "__main__":
    run()
