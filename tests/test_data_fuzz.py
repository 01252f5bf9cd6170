"""Whatever is in an annotation file: refused in one line, or used by every later stage.

All run in child processes with a limit on their memory (tests/fuzz_data.py).
"""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
GB = 2**30


def child(command: str, folder: Path, memory: int, amount: int, seconds: int) -> str:
    """What tests/fuzz_data.py prints; it may use `memory` bytes and `seconds` of CPU time."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "tests/fuzz_data.py", command, str(folder), str(memory), str(amount)],
        cwd=ROOT, env=environment, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds)),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-5000:]
    return done.stdout


def test_check_raises_nothing_but_errors_for_the_user(tmp_path):
    assert "accepted" in child("check", tmp_path, GB, 1000, 300)


def test_what_check_accepts_trains_and_is_evaluated(tmp_path):
    assert "accepted" in child("use", tmp_path, 8 * GB, 400, 300)


def test_large_inputs_take_linear_time_and_memory(tmp_path):
    """2 MB of every kind in seconds; a quadratic RLE reader alone took 28 s for 0.4 MB."""
    lines = child("size", tmp_path, GB, 2_000_000, 120).splitlines()
    outcomes = dict(line.rsplit(" ", 1) for line in lines)
    used = {name for name, outcome in outcomes.items() if outcome == "True"}
    assert used == {"run lengths", "polygons", "boxes", "many names"}
    assert {"endless number", "far polygons", "zigzag", "one id"} <= outcomes.keys() - used
