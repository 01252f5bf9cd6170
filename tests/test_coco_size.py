"""The benchmark of COCO's size, on little: rows are measured, and their processes end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = """
from pathlib import Path
from benchmarks import coco_size as benchmark

benchmark.IMAGES.update(train=40, val=10)
benchmark.OBJECTS.update(train=400, val=100)
benchmark.HELD_OUT = 5
folder = Path({folder!r})
if __name__ == "__main__":
    for name in benchmark.IMAGES:
        benchmark.write_set(folder, name, None)
    for row in [row for row in benchmark.ROWS if row == "stage data" or "ranks" in row]:
        found = benchmark.measure(row, folder)
        print(row, found["cpu_s"], found["peak_gib"], found["before_gib"], sep=";", flush=True)
"""


@pytest.mark.slow
def test_rows_are_measured_and_their_processes_end(tmp_path):
    script = tmp_path / "rows.py"
    (tmp_path / "data").mkdir()
    script.write_text(SCRIPT.format(folder=str(tmp_path / "data")))
    command = [sys.executable, str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split(";") for line in done.stdout.splitlines()]
    assert len(rows) == 2
    for _, spent, peak, before in rows:
        assert float(spent) >= 0 and 0 < float(before) <= float(peak) + 0.1 < 8
