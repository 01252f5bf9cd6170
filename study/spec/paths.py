"""Where everything lies: no other module spells a folder below the project, or a run's files.

Exempt from code digests (`study.spec.code`): dvc.yaml has the same paths, and DVC their contents.
Imports nothing, as every stage imports it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

# Of a published training, `Paths.train / key`.
WEIGHTS = "model_final.pth"
CONFIG = "config.yaml"
HELD_OUT = "held_out.json"
SNAPSHOTS = "snapshots"
LOSSES = "losses"
LOG = "metrics.json"  # of a training; of an evaluation its headline metrics
# Of that, of an evaluation (`Paths.evaluate / key`), of a warm start (`Paths.pretrain / backbone`).
PROVENANCE = "provenance.json"
# Of an evaluation, and of what stage `cam` measures.
DETECTIONS = "detections.json"
PER_CLASS = "per_class.csv"
ORACLE = "oracle.csv.gz"  # masks in true boxes; also of `Paths.evaluate / floors(…)`
# Of a work folder: the finished run.
PUBLISHED = "published"
# Of a report, `Paths.reports`.
METRICS = "metrics.json"
LOSS_CURVES = "losses.csv"
README = "README.md"


def matches(task: str) -> str:
    """The file of an evaluation's matches; task: bbox or segm."""
    return f"matches_{task}.npz"


def floors(supervised: str) -> str:
    """The folder, beside the evaluated runs', of what needs no model: by supervised set."""
    return f"floors-{supervised}"


class Paths:
    """Folders and files of one scale, below `root`: by default the working directory."""

    def __init__(self, scale: str, root: Path = Path()) -> None:
        self.scale: Final = scale
        # The data set, and what the stages leave.
        self.data: Final = root / "data" / scale
        self.manifest: Final = self.data / "manifest.json"
        self.runs: Final = root / "runs" / scale
        self.plan: Final = self.runs / "plan"
        self.inputs: Final = self.runs / "inputs.json"
        self.splits: Final = self.runs / "splits.json"
        self.pretrain: Final = self.runs / "pretrain"
        self.weights: Final = self.pretrain / "weights"
        self.train: Final = self.runs / "train"
        self.evaluate: Final = self.runs / "evaluate"
        self.cam: Final = self.runs / "cam"
        self.search: Final = self.runs / "search"
        self.overlap: Final = self.runs / "overlap.csv"
        self.ambiguity: Final = self.runs / "ambiguity.csv"
        self.pictures: Final = self.runs / "figures"  # which may show photographs
        # What is committed; `all_reports` has a folder a scale.
        self.all_reports: Final = root / "reports"
        self.reports: Final = self.all_reports / scale
        self.tables: Final = self.reports / "tables"
        self.figures: Final = self.reports / "figures"
        # What may be deleted at any time: it costs time alone. DVC's copies of the repository for
        # experiments (`dvc exp run --temp`, `--queue`) share the repository's own.
        home = _repository_of(root.absolute())
        self.is_experiment: Final = home is not None
        self.work: Final = (home or root) / "work"
        self.logs: Final = self.work / "logs"
        self.image_digests: Final = self.work / "digests"
        self.measured: Final = self.work / "measured"

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "Paths":
        """Of the scale that params.yaml asks for."""
        return cls(params["scale"])

    def planned(self, name: str) -> Path:
        """What stage `plan` says of a run, by its key, or of `data` or `pretrain`."""
        return self.plan / f"{name}.yaml"

    def initial(self, backbone: str) -> Path:
        """Weights that runs with `backbone` start from, where the scale has a warm start of it."""
        return self.weights / f"{backbone}.pth"


def _repository_of(copy: Path) -> Path | None:
    """The repository that DVC made `copy` of, which then lies in its `.dvc/tmp/exps`."""
    for folder in copy.parents:
        if folder.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[2]
    return None


CODE = Path("runs", "code")  # what each stage's results rest on (`study.spec.code`)
LIVE = Path("live")  # the trainings that are going on, for DVC (`study.runs.live`)
