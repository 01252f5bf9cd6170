"""Which results of the paper need which runs: its experiments, by section and table."""

from collections.abc import Sequence
from itertools import product

from study.spec.run import Run

DEFAULT = ""  # the global schedule
YOURS = "yours"  # a run that no table or figure needs

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
