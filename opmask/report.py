"""The report of a scale, written from numbers: what reproduced and how certain, then how it was
made. A result that did not reproduce is a sentence like any other.

To add a section, write a function `Report -> str` and name it in `SECTIONS`; an empty string
leaves the section out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from opmask import markdown
from opmask.comparison import comparisons, headline
from opmask.overview import OWN_SCALE, SCALES
from opmask.tables import table1_markdown

_UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Report:
    """What the sections are written from.

    table1: of `tables.table1`. provenance: of `results.read_provenance`. manifest, splits: the
    stages' JSON, empty if absent. credits: of the embedded data's drawings, or empty.
    deepened: backbones whose warm start begins with another's weights.
    """

    scale: str
    schedule: str
    table1: pd.DataFrame
    provenance: Mapping[str, Sequence[Mapping[str, Any]]]
    manifest: Mapping[str, Any]
    splits: Mapping[str, Any]
    credits: str = ""
    deepened: Mapping[str, str] = field(default_factory=dict)


def render(report: Report) -> str:
    """The Markdown of `reports/<scale>/README.md`."""
    parts = [f"# Results at scale `{report.scale}`", *(section(report) for section in SECTIONS)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _findings(report: Report) -> str:
    found = comparisons(report.table1)
    lines = [f"- {one.sentence()}" for one in found]
    about = SCALES.get(report.scale, OWN_SCALE)
    return (
        f"**{headline(found, report.scale)}**\n\n"
        f"Scale: {about}. Schedule: {report.schedule}.\n\n" + "\n".join(lines)
    )


def _table1(report: Report) -> str:
    return (
        "## Table 1\n\n" + table1_markdown(report.table1, report.scale, lead=False) + "\n\n"
        "As files: [table1.csv](tables/table1.csv) (tidy), [table1.md](tables/table1.md), and "
        "every class of every run in [per_class.csv](tables/per_class.csv)."
    )


def _made_with(report: Report) -> str:
    train = report.provenance["train"]
    if not train:
        return "## How it was made\n\nNo training was recorded at this scale."
    facts = {
        "Runs trained": len(train),
        "Iterations a run": _distinct(entry.get("iterations", _UNKNOWN) for entry in train),
        "Seeds": ", ".join(str(s) for s in sorted({e["seed"] for e in train if "seed" in e})),
        "Hardware": _distinct(_hardware(entry) for entry in train),
        "Precision": _distinct(entry.get("precision", _UNKNOWN) for entry in train),
        "Versions": _distinct(_versions(entry) for entry in train),
        "Commit": _distinct(_commit(entry) for entry in train),
    }
    frame = pd.DataFrame({"What": facts.keys(), "Value": facts.values()})
    parts = [markdown.table(frame, left=2), _initial_weights(report), _times(report)]
    return "\n\n".join(["## How it was made", *filter(None, parts)])


def _initial_weights(report: Report) -> str:
    if not report.provenance.get("pretrain"):
        return ""
    text = (
        "Initial weights: not ImageNet's, but one warm start a backbone, shared by all methods and "
        "learned here from the boxes and classes of the training images, no masks."
    )
    for deep, shallow in report.deepened.items():
        text += (
            f" {deep} starts as {shallow} with further blocks that change nothing at first: "
            "compare methods at this scale, not backbones."
        )
    return text


def _times(report: Report) -> str:
    """Wall time a stage: how many parts it has, their longest, and their sum."""
    rows = []
    for stage, entries in report.provenance.items():
        seconds = [_seconds(entry) for entry in entries]
        seconds = [value for value in seconds if value is not None]
        if seconds:
            longest, total = (markdown.duration(f(seconds)) for f in (max, sum))
            rows.append({"Stage": stage, "Parts": len(seconds), "Longest": longest, "Sum": total})
    return "Wall time:\n\n" + markdown.table(pd.DataFrame(rows)) if rows else ""


def _data(report: Report) -> str:
    sets = {name: report.manifest.get(name, {}).get("counts", {}) for name in ("train", "val")}
    if not any(sets.values()):
        return ""
    keys = dict.fromkeys(key for counts in sets.values() for key in counts)
    rows = [
        {"Set": name} | {key.replace("_", " "): f"{counts.get(key, 0):,}" for key in keys}
        for name, counts in sets.items()
    ]
    parts = ["## Data", markdown.table(pd.DataFrame(rows)), _splits(report)]
    if report.credits:
        parts += ["Credits:", "\n".join(f"> {line}" for line in report.credits.splitlines())]
    return "\n\n".join(part for part in parts if part)


def _splits(report: Report) -> str:
    """Classes and masks of the splits; `train_masks` of novel classes never reach training."""
    rows = []
    for name, split in report.splits.items():
        supervised, novel = split["supervised"], split["novel"]
        rows.append(
            {
                "Split": name,
                "Supervised classes": len(supervised["names"]),
                "Masks in training": f"{supervised['train_masks']:,}",
                "Novel classes": len(novel["names"]),
                "Novel objects in val": f"{novel['val_instances']:,}",
            }
        )
    return markdown.table(pd.DataFrame(rows)) if rows else ""


def _regenerate(report: Report) -> str:
    # the folder's own path is the user's business, and reports are tracked by git
    root = " -S data_root=/path/to/data" if report.manifest.get("kind") == "coco" else ""
    return (
        "## Regenerate\n\n"
        f"    pip install uv && uv run dvc exp run -S scale={report.scale} "
        f"-S schedule={report.schedule}{root}\n\n"
        "This page and all files beside it are written by the pipeline; edit the code, not them."
    )


SECTIONS = (_findings, _table1, _made_with, _data, _regenerate)


def _distinct(values: Sequence[str]) -> str:
    """Each different value once, with its count where there are several."""
    counts = Counter(map(str, values))
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{value} ({count} runs)" for value, count in counts.items())


def _hardware(entry: Mapping[str, Any]) -> str:
    parts = entry.get("hardware") or {}
    if not parts:
        return _UNKNOWN
    text = f"{parts.get('cpu', 'CPU')}, {parts.get('cores', '?')} cores"
    if parts.get("ram_gib"):
        text += f", {parts['ram_gib']:.0f} GiB"
    used = parts.get("gpus") and parts.get("gpu")  # a machine's GPU may stand idle
    return f"{parts['gpus']} × {parts['gpu']}; {text}" if used else text


def _versions(entry: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in (entry.get("versions") or {}).items()) or _UNKNOWN


def _commit(entry: Mapping[str, Any]) -> str:
    commit = (entry.get("commit") or _UNKNOWN)[:12]
    return f"{commit} with uncommitted changes" if entry.get("dirty") else commit


def _seconds(entry: Mapping[str, Any]) -> float | None:
    """Wall time of a part: training calls it `wall_s`, evaluation `seconds`."""
    return entry.get("wall_s", entry.get("seconds"))
