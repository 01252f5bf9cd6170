"""Detections made right after a training, ahead of the run's stage `evaluate`."""

from pathlib import Path

from study.runs.folders import DETECTIONS
from study.spec.code import code_of


def detections_file(work: Path) -> Path:
    """Where a run in `work` leaves its detections; the name has their code's digest."""
    digest = code_of("opmask.evaluation.inference")
    return work / DETECTIONS.replace("*", digest[:8])
