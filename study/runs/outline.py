"""The plan before anything starts: which results need which runs, what is done, how long it takes.

The paper's experiments, by section and table, are declared in NEEDS.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from opmask.data.coco import load_manifest
from study.runs.dvc_records import DvcCache
from study.runs.pace import Pace, makespan
from study.runs.status import Progress, job_now, run_progress, warm_start_progress
from study.spec.paths import Paths
from study.spec.run import Run, all_runs

DEFAULT = ""  # the global schedule
CACHED = "in DVC's cache"  # a state beside those of `study.runs.status`
OVER = ("published", "trained ahead", CACHED)
YOURS = "yours"  # a run that no table or figure needs
ALL = "all runs"  # need the warm start

# result: rows of (methods, backbones, supervised sets, schedules) of which it needs all products
_BOTH, _WAYS = "maskrcnn opmask", "voc nonvoc"
NEEDS: dict[str, list[tuple[str, str, str, str]]] = {
    "Table 1": [(_BOTH, "R50 R101", _WAYS, DEFAULT)],
    "Table 2": [(_BOTH, "R50", "voc nonvoc all", DEFAULT), ("fasterrcnn", "R50", "all", DEFAULT)],
    "Table 3": [("opmask", "R50", _WAYS, "1x 130k 3x"), ("opmask", "R101", _WAYS, "130k 3x")],
    "Figure 1": [(_BOTH, "R101", _WAYS, DEFAULT)],
    "Figure 3": [(_BOTH, "R50", _WAYS, DEFAULT)],
    "Figure 4": [(_BOTH, "R101", _WAYS, DEFAULT)],
    "Figure 5": [(_BOTH, "R101", "voc", DEFAULT)],
    "Figure 6": [(_BOTH, "R50", "voc voc20 nonvoc all", DEFAULT)],
    "Figure 7": [("fasterrcnn maskrcnn opmask", "R50", "all", DEFAULT)],
    "Figure 8": [(_BOTH, "R101", "nonvoc", DEFAULT)],
    "§ 4.4": [("opmask opmask_detached", "R50", "nonvoc", DEFAULT)],
    "§ 4.5": [("opmask", "R50", _WAYS, "search")],
    "control": [("maskrcnn maskrcnn7 opmask", "R50", _WAYS, DEFAULT)],  # the deeper head's share
}


@dataclass(frozen=True)
class Line:
    """One training of the plan: who needs it, and how many seconds what is left of it, detecting
    included, takes (NaN if unknown; `source` says how it is known)."""

    progress: Progress
    needed: str
    seconds: float
    source: str


@dataclass(frozen=True)
class Total:
    """Wall time that is left, seconds: the warm start, then the runs side by side.

    unknown: kinds of run, and warm starts, without a time; neither sum contains them.
    """

    warm_start: float
    runs: float
    unknown: Sequence[str]


def configurations(result: str, schedule: str) -> set[tuple[str, str, str, str]]:
    """(method, backbone, supervised, schedule) of all runs that `result` of NEEDS is made from."""
    return {
        (method, backbone, supervised, named or schedule)
        for row in NEEDS[result]
        for method, backbone, supervised, named in product(*(column.split(" ") for column in row))
    }


def needed_by(run: Run, schedule: str) -> list[str]:
    """The results of NEEDS that `run` is part of; `schedule` is the global one."""
    return [result for result in NEEDS if run.configuration in configurations(result, schedule)]


def incomplete(runs: Sequence[Run], schedule: str) -> dict[str, int]:
    """How many runs each result lacks, where `runs` has not all of them."""
    have = {run.configuration for run in runs}
    missing = {result: len(configurations(result, schedule) - have) for result in NEEDS}
    return {result: count for result, count in missing.items() if count}


def abbreviate(results: Sequence[str]) -> str:
    """`Tables 1 2, Figure 3, § 4.4`: results of NEEDS as short as they may be."""
    parts = []
    for word in ("Table", "Figure"):
        numbers = [result.split()[1] for result in results if result.startswith(f"{word} ")]
        if numbers:
            parts.append(f"{word}{'s' if len(numbers) > 1 else ''} {' '.join(numbers)}")
    rest = [result for result in results if not result.startswith(("Table ", "Figure "))]
    return ", ".join([*parts, *rest]) or YOURS


def outline(params: Mapping[str, Any], paces: Mapping[str, Pace]) -> list[Line]:
    """Every training of the plan in order: the phases of the warm start, then the runs."""
    cache, images = DvcCache.here(), _val_images(params)
    phases = [
        _line(phase, ALL, 0, paces)
        for backbone in params["scales"][params["scale"]]["warm_start"]
        for phase in warm_start_progress(backbone, params)
    ]
    runs = []
    for run in all_runs(params):
        found, job = run_progress(run, params), job_now(run, params)
        if found.state in ("waiting", "stale") and job is not None and cache.has_run(job):
            found = replace(found, state=CACHED, done=found.total)
        needed = abbreviate(needed_by(run, str(params["schedule"])))
        runs.append(_line(found, needed, images, paces))
    return [*phases, *runs]


def _line(found: Progress, needed: str, images: int, paces: Mapping[str, Pace]) -> Line:
    if found.state in OVER:
        return Line(found, needed, 0.0, "")
    if found.kind not in paces:
        return Line(found, needed, math.nan, "")
    pace = paces[found.kind]
    return Line(found, needed, found.left * pace.iteration + images * pace.image, pace.source)


def _val_images(params: Mapping[str, Any]) -> int:
    manifest = Paths.of(params).manifest
    if manifest.is_file():
        return load_manifest(manifest).val.counts["images"]
    given = params["scales"][params["scale"]]["data"]["val_images"]
    return given if isinstance(given, int) else 0  # else a folder's name


def total(lines: Sequence[Line], places: int) -> Total:
    """What is left of the plan when `places` runs train at the same time, as the sweep does."""
    known = [line for line in lines if not math.isnan(line.seconds)]
    return Total(
        sum(line.seconds for line in known if line.needed == ALL),
        makespan([line.seconds for line in known if line.needed != ALL], places),
        list(dict.fromkeys(line.progress.kind for line in lines if line not in known)),
    )
