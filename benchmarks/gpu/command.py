"""Runs the parts of `benchmarks.gpu` within a budget.

Each is a process of its own with a limit, so that one that fails or hangs takes no other with it.
Results are `PART.csv`, whole after every row, and `PART.log`, what the part printed; `summary.csv`
says how each ended. Repeating the command with --parts measures these anew.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd
import torch

from benchmarks.gpu import PARTS
from opmask.errors import UserError
from opmask.integrity import write_durably

SLOWER = 10  # of a rehearsal's limits
LEAST = 15  # seconds in which a part may show something
SHOWN = 60  # lines of its log
DONE = "done"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    about = [f"  {name:10}{part.seconds:4} s  {part.about}" for name, part in PARTS.items()]
    result = argparse.ArgumentParser(
        prog="python -m benchmarks gpu",
        description=__doc__,
        epilog="\n".join(["parts, and their limits on a GPU:", *about]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("--budget", type=float, metavar="MINUTES", help="in all; default: 10, on CPU unlimited")
    add("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: a rehearsal")
    add("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    scales = ["coco", "miniature", "smoke"]
    add("--scale", choices=scales, help="of what is timed; default: coco, on CPU smoke")
    add("--out", type=Path, required=True, metavar="FOLDER", help="for results, logs and images")
    return result


def run(argv: Sequence[str]) -> None:
    """Run the parts; exit status 1 if one of them did not end well. UserError: there is no GPU."""
    options = parser().parse_args(argv)
    rehearsal = options.device == "cpu"
    if not rehearsal and not torch.cuda.is_available():
        raise UserError("--device: torch finds no GPU; --device cpu rehearses all parts")
    scale = options.scale or ("smoke" if rehearsal else "coco")
    minutes = options.budget or (float("inf") if rehearsal else 10)
    deadline = time.monotonic() + 60 * minutes
    options.out.mkdir(parents=True, exist_ok=True)
    summary = []
    for name in options.parts:
        print(f"\n{name}: {PARTS[name].about}", flush=True)
        limit = PARTS[name].seconds * (SLOWER if rehearsal else 1)
        command = command_of(name, options.device, scale, options.out)
        row = _run_part(command, options.out / name, min(limit, deadline - time.monotonic()))
        summary.append({"part": name, **row, "about": PARTS[name].about})
        table = pd.DataFrame(summary)
        write_durably(options.out / "summary.csv", table.to_csv(index=False))
    print("\n" + table.to_string(index=False))
    if (table["outcome"] != DONE).any() or table["errors"].any():
        sys.exit(1)


def command_of(part: str, device: str, scale: str, folder: Path) -> list[str]:
    """What runs a part."""
    return [sys.executable, "-m", "benchmarks.gpu", part, device, scale, str(folder)]


def _run_part(command: Sequence[str], stem: Path, limit: float) -> dict[str, object]:
    """Run `command` for `limit` seconds at most, its output into `stem`.log, then shown; how it
    ended, and what it left in `stem`.csv, where earlier results stay if there is no time."""
    if limit < LEAST:
        return {"outcome": "no time left", "rows": 0, "errors": 0, "seconds": 0}
    results, log = stem.with_suffix(".csv"), stem.with_suffix(".log")
    results.unlink(missing_ok=True)
    started = time.monotonic()
    outcome = _outcome(command, log, limit)
    seconds = round(time.monotonic() - started)
    print("\n".join(log.read_text(errors="replace").splitlines()[-SHOWN:]), flush=True)
    rows = pd.read_csv(results) if results.exists() else pd.DataFrame()
    errors = int(rows["error"].notna().sum()) if "error" in rows else 0
    return {"outcome": outcome, "rows": len(rows), "errors": errors, "seconds": seconds}


def _outcome(command: Sequence[str], log: Path, limit: float) -> str:
    quiet = {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=os.environ | quiet, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            return f"out of time ({limit:.0f} s)"
        finally:
            with suppress(ProcessLookupError):  # with all that it has started
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return DONE if code == 0 else f"failed ({code})"
