"""Finds objects in your images with a trained run, and draws or writes them.

--format overlay  a picture of every image with masks, boxes, classes and scores
--format coco     detections.json, COCO results with file names, and images.json beside it
--format png      a folder for every image with a black-and-white mask an object

--format overlay,coco,png is all three. Of a video, given by its name, every frame is an image.

In the output folder only files that an earlier prediction wrote there, and nobody changed since,
are replaced; a record there, .opmask-predict, says which. Else nothing is written.
"""

import argparse
import io
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opmask.errors import UserError, main
from opmask.inputs import VIDEO_TYPES, InputImage, Reader, find_images
from opmask.outputs import Outputs

if TYPE_CHECKING:  # they take seconds to import
    from numpy.typing import NDArray

    from opmask.evaluation.predictor import Detections, Predictor

FORMATS = ("overlay", "coco", "png")
MASK = re.compile(r"\d{2,}_.*_\d\.\d\d\.png")  # names of `save_masks`


def load(
    run: Path | str,
    *,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
    priors: bool = False,
    device: str = "auto",
) -> "Predictor":
    """A trained run, ready to be called with images: `docs/predict.md`. Imports torch.

    Args:
        run: the folder that training left, or a file of weights in it or below it.
        threshold: score, 0 to 1, above which a detection counts.
        mask_threshold: probability, above 0 and at most 1, from which a pixel is in its mask.
        priors: also compute the object mask prior of every detection (of a run without one the
            class activation map), which takes about as long as the detections.
        device: "auto" (a GPU if there is one), or what torch calls it.

    Raises:
        opmask.errors.UserError: the run is incomplete or damaged, or there is no such device.
    """
    from opmask.evaluation import predictor

    settings = {"threshold": threshold, "mask_threshold": mask_threshold, "priors": priors}
    return predictor.load(run, device=device, **settings)


@dataclass
class Tally:
    """What was done: images, the objects that each run found in them, and those left out."""

    images: int = 0
    empty: int = 0  # of them, images in which the first run found nothing
    objects: dict[str, int] = field(default_factory=dict)  # by run
    skipped: list[str] = field(default_factory=list)  # the reasons

    def __str__(self) -> str:
        first, *others = self.objects.items()
        found = _counted(first[1], "object")
        if others:
            found += f" by {first[0]}, " + ", ".join(f"{count} by {run}" for run, count in others)
        return f"{_counted(self.images, 'image')}, {found}"


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m opmask.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Unreadable images are skipped and named at the end.",
    )
    parser.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="images, videos, folders of images"
    )
    parser.add_argument(
        "--run", type=Path, required=True,
        help="folder that training left, runs/<scale>/train/<run>, or a file of weights in it",
    )  # fmt: skip
    parser.add_argument(
        "--compare", type=Path, metavar="RUN", help="overlay: beside it that of another run"
    )
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="default %(default)s")
    parser.add_argument(
        "--format", action="append", help="default overlay; several with commas, or repeated"
    )
    parser.add_argument("-r", "--recursive", action="store_true", help="folders with all below")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N",
        help=f"of a video ({', '.join(VIDEO_TYPES)}) every N-th frame; default %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--prior", action="store_true",
        help="overlay: beside it the object mask prior of every box as a heat map, of runs "
        "without one the class activation map",
    )  # fmt: skip
    parser.add_argument(
        "--threshold", type=float, default=0.5, metavar="SCORE", help="default %(default)s"
    )
    parser.add_argument(
        "--mask-threshold", type=float, default=0.5, metavar="P",
        help="probability from which a pixel is in a mask; default %(default)s, the paper's",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="cpu or cuda; default a GPU if there is")
    args = parser.parse_args(argv)
    words = ",".join(args.format or ["overlay"]).split(",")
    args.format = tuple(dict.fromkeys(word.strip() for word in words))
    for unknown in sorted(set(args.format) - set(FORMATS)):
        raise UserError(f"--format: '{unknown}' is unknown; there are {', '.join(FORMATS)}")
    if not 0 <= args.threshold <= 1:
        raise UserError(f"--threshold: {args.threshold:g} is not between 0 and 1")
    if not 0 < args.mask_threshold <= 1:
        raise UserError(f"--mask-threshold: {args.mask_threshold:g} is not above 0, at most 1")
    if args.every < 1:
        raise UserError(f"--every: {args.every} is not 1 or more")
    for name in ("prior", "compare"):
        if getattr(args, name) and "overlay" not in args.format:
            raise UserError(f"--{name}: is drawn with --format overlay only")
    return args


@main
def run(argv: Sequence[str]) -> None:
    """Command line: predict, report what was found and what was skipped."""
    args = arguments(argv)
    outputs = Outputs(args.out)
    images = find_images(args.images, outputs, recursive=args.recursive, every=args.every)
    check_outputs(outputs, images, args.format)
    try:  # takes seconds: after the arguments are good
        from opmask.evaluation.predictor import load
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "detectron2":
            raise
        raise UserError(
            "detectron2 is not installed: install official main, or 'opmask[detectron2]'"
        ) from error

    given = {"threshold": args.threshold, "mask_threshold": args.mask_threshold}
    settings = {**given, "priors": args.prior, "device": args.device}
    predictors = {name: load(path, **settings) for name, path in named(args).items()}
    first = next(iter(predictors.values()))
    if "png" in args.format and not first.has_masks:
        raise UserError(f"--format png: {args.run} has no mask head")
    started = time.monotonic()
    done = write_all(predictors, images, outputs, args.format)
    speed = done.images / (time.monotonic() - started)
    hint = ""
    if done.empty:
        hint = f", {_counted(done.empty, 'image')} with none above {args.threshold:g}"
        hint += f": try --threshold {0.6 * args.threshold:.1g}" if args.threshold else ""
    print(f"{done}{hint}")
    print(f"{args.out}: {_counted(outputs.count, 'file')}; {speed:.2g} images/s on {first.device}")
    for reason in done.skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    if not outputs.count:
        print("nothing was written", file=sys.stderr)
    if done.skipped or not outputs.count:
        sys.exit(1)


def named(args: argparse.Namespace) -> dict[str, Path]:
    """The runs by short names that tell them apart."""
    runs = [args.run, *([args.compare] if args.compare else [])]
    names = [path.name for path in runs] if len({p.name for p in runs}) == len(runs) else runs
    return {str(name): path for name, path in zip(names, runs, strict=True)}


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


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


def write_all(
    predictors: Mapping[str, "Predictor"],
    images: Sequence[InputImage],
    outputs: Outputs,
    formats: Sequence[str],
) -> Tally:
    """Predict and write every image; by the first of the runs, but in overlays by each."""
    from tqdm import tqdm

    from opmask.evaluation.overlay import side_by_side

    done, read = Tally(objects=dict.fromkeys(predictors, 0)), Reader()
    records: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in tqdm(images, "predict", unit="img", disable=None):
        try:
            picture = read(image)
            found = {name: predictor(picture) for name, predictor in predictors.items()}
        except UserError as error:
            done.skipped.append(str(error))
            continue
        first = next(iter(found.values()))
        done.images += 1
        done.empty += not len(first)
        for name, one in found.items():
            done.objects[name] += len(one)
        height, width = first.image.shape[:2]
        where = {"file_name": image.file_name}
        records.append({"id": image.id, **where, "height": height, "width": width})
        results += [{**result, **where} for result in first.coco(image.id)]
        if "overlay" in formats:
            drawn = {name: one.overlay() for name, one in found.items()}
            whole = side_by_side(drawn) if len(drawn) > 1 else drawn.popitem()[1]
            outputs.write(f"{image.stem}.png", as_png(whole))
        if "png" in formats:
            save_masks(first, outputs, image.stem)
    if "coco" in formats and records:
        categories = next(iter(predictors.values())).categories
        content = {"images": records, "annotations": [], "categories": categories}
        outputs.write("images.json", json.dumps(content).encode())
        outputs.write("detections.json", json.dumps(results).encode())
    return done


def as_png(pixels: "NDArray") -> bytes:
    """The file of an array `(H, W)` or `(H, W, 3)` of uint8."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def save_masks(found: "Detections", outputs: Outputs, folder: str) -> None:
    """`NN_<class>_<score>.png` for every detection, 255 inside, of the image's size."""
    files = {}
    for index, mask in enumerate(() if found.masks is None else found.masks):
        name = re.sub(r"[^\w]+", "-", found.names[index])
        path = f"{folder}/{index + 1:02}_{name}_{found.scores[index]:.2f}.png"
        files[path] = as_png(255 * mask.astype("uint8"))
    outputs.remove_others(folder, files, MASK)
    for name, content in files.items():
        outputs.write(name, content)


if __name__ == "__main__":
    run()
