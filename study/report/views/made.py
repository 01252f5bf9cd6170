"""How the results were made: each run, what it reached and took; what made it; the data."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from study.format import duration
from study.report.blocks import Block, Curve, Table
from study.report.inputs import Inputs, TrainedRun
from study.report.render import lay_out, say
from study.report.words import WORDS

UNKNOWN = "not recorded"
LOSSES = ("total_loss", "loss_mask")
_POINTS = 60  # of a curve: about one every two pixels

Entry = Mapping[str, Any]  # the content of one provenance.json


def blocks(inputs: Inputs) -> list[Block]:
    """Each run; what all have in common, and how they were initialised; what each stage took."""
    if not inputs.trained:
        return []
    entries = [one.provenance for one in inputs.trained]
    found: list[Block] = [runs(inputs.trained, inputs.summary), facts(entries)]
    if inputs.provenance.get("pretrain"):
        deepened = inputs.deepened.items()
        texts = [WORDS["deepened"].format(deep=deep, shallow=shallow) for deep, shallow in deepened]
        found.append(" ".join([WORDS["initial_weights"], *texts]))
    return [*found, *times(inputs.provenance or {"train": entries})]


def runs(trained: Sequence[TrainedRun], summary: pd.DataFrame | None) -> Table:
    """A line a run: its AP, of `results.summarise`, its losses, and what it took."""
    keys = ["run", "seed", "supervision", "task"]
    reached = {} if summary is None else summary.set_index(keys)["AP"].to_dict()
    curves = [{n: _thin(c) for n, c in one.losses.items() if n in LOSSES} for one in trained]
    steps = max((c["step"].max() for one in curves for c in one.values()), default=1)
    tops = {n: max((c[n]["value"].max() for c in curves if n in c), default=1) for n in LOSSES}
    lines = [
        {
            "run": one.run,
            "ap": {
                key[2:]: ap
                for key, ap in reached.items()
                if key[:2] == (one.run.name, one.run.seed)
            },
            "losses": {name: _draw(drawn.get(name), steps, tops[name]) for name in LOSSES},
            "iterations": one.provenance.get("iterations", UNKNOWN),
            "time": _time(one.provenance),
            "memory": _memory([one.provenance]),
        }
        for one, drawn in zip(trained, curves, strict=True)
    ]
    shared = any(one.provenance.get("shared_iterations") for one in trained)
    caption = " ".join([WORDS["runs"], *([WORDS["shared"]] if shared else [])])
    return Table(lay_out("runs", lines), caption)


def _time(entry: Entry) -> str:
    """`2 min`, or `12 s, from iteration 702`: what it shares with other runs is counted there."""
    time = _seconds(entry)
    text = UNKNOWN if time is None else duration(time)
    shared = entry.get("shared_iterations")
    return f"{text}, from iteration {shared}" if shared else text


def _thin(curve: pd.DataFrame) -> pd.DataFrame:
    """`curve` (step, value) as at most _POINTS means of neighbours; no rows if it has none."""
    if len(curve) <= _POINTS:
        return curve
    return curve.groupby(np.arange(len(curve)) * _POINTS // len(curve)).mean()


def _draw(curve: pd.DataFrame | None, steps: float, top: float) -> Curve | None:
    """`curve` on the axes 0 to `steps` and 0 to `top`; None without a point."""
    if curve is None or curve.empty:
        return None
    x = Curve.width * curve["step"].to_numpy(float) / (steps or 1)
    y = Curve.height * (1 - np.clip(curve["value"].to_numpy(float) / (top or 1), 0, 1))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return Curve(points, f"{curve['value'].iloc[-1]:.2f}")


def times(provenance: Mapping[str, Sequence[Entry]]) -> list[Block]:
    """Wall time a stage: how many parts it has, their longest, and their sum; empty if nothing was
    recorded."""
    rows = []
    for stage, entries in provenance.items():
        known = [value for entry in entries if (value := _seconds(entry)) is not None]
        if known:
            longest, total = (duration(f(known)) for f in (max, sum))
            rows.append({"Stage": stage, "Parts": len(known), "Longest": longest, "Sum": total})
    return [Table(pd.DataFrame(rows), "Wall time")] if rows else []


def facts(train: Sequence[Entry]) -> Table:
    """What all trainings share, each different value with its count."""
    found = {
        "Runs trained": len(train),
        "Iterations a run": _distinct(entry.get("iterations", UNKNOWN) for entry in train),
        "Seeds": ", ".join(str(s) for s in sorted({e["seed"] for e in train if "seed" in e})),
        "Hardware": _distinct(say("hardware", entry.get("hardware") or {}) for entry in train),
        "Peak memory": _memory(train),
        "Precision": _distinct(entry.get("precision", UNKNOWN) for entry in train),
        "Versions": _distinct(say("versions", entry.get("versions") or {}) for entry in train),
        "Commit": _distinct(say("commit", entry) for entry in train),
        "Date": _distinct(entry.get("date", UNKNOWN) for entry in train),
    }
    rows = {"What": found.keys(), "Value": [value or UNKNOWN for value in found.values()]}
    return Table(pd.DataFrame(rows), left=2)


def _distinct(values: Iterable[object]) -> str:
    """Each different value once, with its count where there are several."""
    counts = Counter(str(value) or UNKNOWN for value in values)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{value} ({n} {'run' if n == 1 else 'runs'})" for value, n in counts.items())


def _seconds(entry: Entry) -> float | None:
    """Wall time of a part: training calls it `wall_s`, evaluation `seconds`."""
    return entry.get("wall_s", entry.get("seconds"))


def _memory(entries: Sequence[Entry]) -> str:
    known = [entry["peak_memory_gib"] for entry in entries if entry.get("peak_memory_gib")]
    return f"{max(known):.1f} GiB" if known else UNKNOWN


def data(manifest: Mapping[str, Any], splits: Mapping[str, Any]) -> list[Block]:
    """Counts and class splits, from the stages' JSON, `data/<scale>/manifest.json` and
    `splits.json`; empty if there is no manifest. `train_masks` of novel classes never reach
    training."""
    sets = pd.DataFrame(
        {name: manifest.get(name, {}).get("counts", {}) for name in ("train", "val")}
    ).T
    if sets.empty:
        return []
    counts = sets.fillna(0).astype(int).map("{:,}".format).rename_axis("Set").reset_index()
    classes = lay_out("split", [split | {"name": name} for name, split in splits.items()])
    tables = [counts.rename(columns=lambda name: name.replace("_", " ")), classes]
    return [Table(frame) for frame in tables if len(frame)]
