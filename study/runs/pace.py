"""How long trainings take: by those of the scale that are finished, else by those under way."""

import heapq
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.runs.status import phase_length, progress, warm_start_kind
from study.spec.paths import PROVENANCE, Paths
from study.spec.results import read_json
from study.spec.run import Run

FINISHED, UNDER_WAY = "finished runs", "trainings under way"


@dataclass(frozen=True)
class Pace:
    """Seconds: an iteration, and a validation image afterwards."""

    iteration: float
    image: float
    source: str  # FINISHED or UNDER_WAY


def known_paces(params: Mapping[str, Any]) -> dict[str, Pace]:
    """The pace of each kind of training (`Progress.kind`), where known.

    Those under way log no time to detect, which is left out.
    """
    logged = {
        one.kind: Pace(one.log.seconds, 0.0, UNDER_WAY)
        for one in progress(params)
        if not math.isnan(one.log.seconds)
    }
    return {**logged, **finished_paces(params)}


def finished_paces(params: Mapping[str, Any]) -> dict[str, Pace]:
    """Medians over the scale's trainings that are finished, whatever machine they ran on."""
    paths, scale = Paths.of(params), params["scales"][params["scale"]]
    found: dict[str, list[tuple[float, float]]] = {}
    for path in sorted(paths.train.glob(f"*/{PROVENANCE}")):
        about = read_json(path)
        detected = read_json(paths.evaluate / path.parent.name / PROVENANCE)
        image = detected["seconds"] / detected["images"] if detected else 0.0
        pace = about["wall_s"] / about["iterations"], image
        found.setdefault(Run.from_name(about["run"]).kind, []).append(pace)
    paces = {}
    for kind, values in found.items():
        iterations, images = zip(*values, strict=True)
        paces[kind] = Pace(statistics.median(iterations), statistics.median(images), FINISHED)
    for backbone, recipe in scale["warm_start"].items():
        about = read_json(paths.pretrain / backbone / PROVENANCE)
        if about:  # which has the length of the last phase; it may have been another
            lengths = [phase_length(phase, scale) for phase in recipe["phases"]]
            seconds = about["wall_s"] * lengths[-1] / about["iterations"]
            paces[warm_start_kind(backbone)] = Pace(seconds / sum(lengths), 0.0, FINISHED)
    return paces


def makespan(durations: Sequence[float], places: int) -> float:
    """Wall time of runs that start longest first, each as soon as one of `places` is free."""
    free = [0.0] * places
    for duration in sorted(durations, reverse=True):
        heapq.heapreplace(free, free[0] + duration)
    return max(free)
