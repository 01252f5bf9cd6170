"""What made the runs, from their `provenance.json`: hardware, versions, commit, time."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from study.format import duration
from study.report.blocks import Block, Table
from study.report.inputs import Inputs
from study.report.words import WORDS

UNKNOWN = "not recorded"

Entry = Mapping[str, Any]  # the content of one provenance.json


def blocks(inputs: Inputs) -> list[Block]:
    """What all trainings share, and how they were initialised."""
    found = facts([one.provenance for one in inputs.trained])
    frame = pd.DataFrame({"What": found.keys(), "Value": found.values()})
    blocks: list[Block] = [Table(frame, left=2)]
    if inputs.provenance.get("pretrain"):
        deepened = inputs.deepened.items()
        texts = [WORDS["deepened"].format(deep=deep, shallow=shallow) for deep, shallow in deepened]
        blocks.append(" ".join([WORDS["initial_weights"], *texts]))
    return blocks


def times(provenance: Mapping[str, Sequence[Entry]]) -> list[Block]:
    """Wall time a stage: how many parts it has, their longest, and their sum; empty if nothing was
    recorded."""
    rows = []
    for stage, entries in provenance.items():
        known = [value for entry in entries if (value := seconds(entry)) is not None]
        if known:
            longest, total = (duration(f(known)) for f in (max, sum))
            rows.append({"Stage": stage, "Parts": len(known), "Longest": longest, "Sum": total})
    return ["Wall time:", Table(pd.DataFrame(rows))] if rows else []


def facts(train: Sequence[Entry]) -> dict[str, str]:
    """What all trainings share, each different value with its count."""
    found = {
        "Runs trained": str(len(train)),
        "Iterations a run": distinct(entry.get("iterations", UNKNOWN) for entry in train),
        "Seeds": ", ".join(str(s) for s in sorted({e["seed"] for e in train if "seed" in e})),
        "Hardware": distinct(hardware(entry) for entry in train),
        "Peak memory": _memory(train),
        "Precision": distinct(entry.get("precision", UNKNOWN) for entry in train),
        "Versions": distinct(versions(entry) for entry in train),
        "Commit": distinct(commit(entry) for entry in train),
    }
    return {name: value or UNKNOWN for name, value in found.items()}


def distinct(values: Iterable[object]) -> str:
    """Each different value once, with its count where there are several."""
    counts = Counter(map(str, values))
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(
        f"{value} ({count} {'run' if count == 1 else 'runs'})" for value, count in counts.items()
    )


def hardware(entry: Entry) -> str:
    """GPUs that were used, CPU, cores and memory."""
    parts = entry.get("hardware") or {}
    if not parts:
        return UNKNOWN
    text = f"{parts.get('cpu', 'CPU')}, {parts.get('cores', '?')} cores"
    if parts.get("ram_gib"):
        text += f", {parts['ram_gib']:.0f} GiB"
    used = parts.get("gpus") and parts.get("gpu")  # a machine's GPU may stand idle
    return f"{parts['gpus']} × {parts['gpu']}; {text}" if used else text


def versions(entry: Entry) -> str:
    """`python 3.11, torch 2.15.0, …`"""
    return ", ".join(f"{k} {v}" for k, v in (entry.get("versions") or {}).items()) or UNKNOWN


def commit(entry: Entry) -> str:
    """The commit, shortened, and whether code or parameters differed from it."""
    short = (entry.get("commit") or UNKNOWN)[:12]
    return f"{short} with uncommitted changes" if entry.get("dirty") else short


def seconds(entry: Entry) -> float | None:
    """Wall time of a part: training calls it `wall_s`, evaluation `seconds`."""
    return entry.get("wall_s", entry.get("seconds"))


def costs(entry: Entry) -> dict[str, str]:
    """What one training took."""
    time = seconds(entry)
    return {
        "Iterations": str(entry.get("iterations", UNKNOWN)),
        "Time": UNKNOWN if time is None else duration(time),
        "Peak memory": _memory([entry]),
        "Date": str(entry.get("date", UNKNOWN)),
    }


def _memory(entries: Sequence[Entry]) -> str:
    known = [entry["peak_memory_gib"] for entry in entries if entry.get("peak_memory_gib")]
    return f"{max(known):.1f} GiB" if known else UNKNOWN
