"""What made the runs, from their `provenance.json`, in words: hardware, versions, commit, time."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from study import format as markdown

UNKNOWN = "not recorded"

Entry = Mapping[str, Any]  # the content of one provenance.json


def facts(train: Sequence[Entry]) -> dict[str, str]:
    """What all trainings share, each different value with its count."""
    memory = [entry["peak_memory_gib"] for entry in train if entry.get("peak_memory_gib")]
    found = {
        "Runs trained": str(len(train)),
        "Iterations a run": distinct(entry.get("iterations", UNKNOWN) for entry in train),
        "Seeds": ", ".join(str(s) for s in sorted({e["seed"] for e in train if "seed" in e})),
        "Hardware": distinct(hardware(entry) for entry in train),
        "Peak memory": f"{max(memory):.1f} GiB" if memory else UNKNOWN,
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


def time_text(entry: Entry) -> str:
    """Wall time of a part for people."""
    value = seconds(entry)
    return UNKNOWN if value is None else markdown.duration(value)
