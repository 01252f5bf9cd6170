"""Detections made right after a training, ahead of the run's stage `evaluate`."""

from pathlib import Path

from opmask.planning.code import code_of
from opmask.training.folders import DETECTIONS


def detections_file(work: Path) -> Path:
    """Where a run in `work` leaves its detections; the name has their code's digest."""
    digest = code_of("opmask.evaluation.inference")
    return work / DETECTIONS.replace("*", digest[:8])
