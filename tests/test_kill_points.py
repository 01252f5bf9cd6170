"""Power cuts and full disks anywhere between training and DVC's record: nothing stuck or lost."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_points.py")


@pytest.mark.slow
def test_a_fault_at_any_write_costs_nothing():
    """A sample of `kill_points.py`, which says how to go through all points.

    In a process of its own: the forks of one that runs other tests, too, inherit their locks.
    """
    command = [sys.executable, str(SCRIPT), "--sample", "6", "--fault", "kill", "full", "limit"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) points", done.stdout)[1]) > 200
    assert len(re.findall(r"points, {'right': \d+}$", done.stdout, re.MULTILINE)) == 3
