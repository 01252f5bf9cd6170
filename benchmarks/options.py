"""What a benchmark may be told on the command line."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """Every benchmark reads those that concern it. Defaults are what README.md reports."""

    scale: str = "miniature"  # of params.yaml: what the models are
    backbones: tuple[str, ...] = ("R50",)
    variants: tuple[str, ...] = ()  # of models.VARIANTS; () is the benchmark's own
    device: str = "cpu"  # or "cuda"
    precision: str = ""  # "fp32" or "bf16"; "" is the scale's own
    threads: int = 1  # of each process; a sweep trains one run a core
    batch: int = 0  # images a step; 0 is the scale's own
    repeats: int = 0  # 0 is the benchmark's own
    starts: int = 0  # of the processes that hold the models; 0 is the benchmark's own
    weights: Path | None = None  # initial ones; else the project's warm start if it is there
    coco_boxes: Path | None = None  # npz: image_id, category_id, cxcywh_normalised
    clone: Path | None = None  # a finished clone, for `noop` and `miniature`
    seconds: float | None = None  # what `dvc repro` in that clone took, for `miniature`

    def times(self, own: int) -> int:
        """Repeats asked for, or else the benchmark's `own`."""
        return self.repeats or own
