"""Part `profile`: what a GPU does in a step, and where the CPU waits for it."""

import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as record

import opmask
from benchmarks.gpu.setting import Row, Setting
from benchmarks.session import Session

SHOWN = 15  # operations of each batch, and lines that wait
OWNERS = ("opmask/", "detectron2/")


def profile(setting: Setting) -> Iterator[Row]:
    """By batch: a step's time, of which so much is the device's work; its longest operations; how
    often it waits, and the lines of ours or detectron2's that do. `profile-BATCH.txt` has more."""
    for batch in setting.batches:
        session = Session(setting.timed_job("opmask", "bf16", batch))
        wall = 1000 * setting.seconds(partial(session.train, 1), 3 if setting.on_gpu else 1)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] * setting.on_gpu)]
        with record(activities=activities) as recorded:
            session.train(1)
        averages = recorded.key_averages()
        spent = f"self_{'device' if setting.on_gpu else 'cpu'}_time_total"
        table = averages.table(sort_by=spent, row_limit=60)
        Path(setting.folder, f"profile-{batch}.txt").write_text(table)
        # What a GPU runs is listed as its own; operators of the CPU list it once more.
        kind = torch.autograd.DeviceType.CUDA if setting.on_gpu else torch.autograd.DeviceType.CPU
        own = [e for e in averages if e.device_type == kind]
        rows = [("operation", getattr(e, spent) / 1000, e.count, e.key[:120]) for e in own]
        rows.sort(key=lambda row: -row[1])
        busy = sum(ms for _, ms, _, _ in rows)
        waiting = waits(partial(session.train, 1), setting.on_gpu)
        found = [("step", wall, 1, ""), ("busy", busy, 1, ""), ("waits", None, waiting.total(), "")]
        found += rows[:SHOWN] + [("wait", None, n, at) for at, n in waiting.most_common(SHOWN)]
        for what, ms, count, name in found:
            yield {"batch": batch, "what": what, "ms": ms, "count": count, "name": name}


def waits(action: Callable[[], object], on_gpu: bool = True) -> Counter[str]:
    """How often each line, `opmask/model/roi_heads.py:112`, makes the CPU wait for the GPU."""
    root, found = f"{Path(opmask.__file__).parents[1]}/", Counter[str]()

    def note(message: Warning | str, _kind: type, file: str, number: int, *_: object) -> None:
        if "synchroniz" not in str(message):
            return
        stack = [(frame.filename, frame.lineno) for frame in traceback.extract_stack()]
        lines = [
            f"{name.split('site-packages/')[-1].removeprefix(root)}:{at}"
            for name, at in [*reversed(stack), (file, number)]
        ]
        found[next((line for line in lines if line.startswith(OWNERS)), lines[-1])] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        if on_gpu:
            torch.cuda.set_sync_debug_mode("warn")
        action()
        if on_gpu:
            torch.cuda.set_sync_debug_mode("default")
    return found
