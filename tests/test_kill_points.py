"""Power cuts and full disks anywhere between training and DVC's record: nothing stuck or lost.

A sample of `kill_points.py`, which says how to go through all points.
"""

import pytest
from kill_points import Harness


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    return Harness(tmp_path_factory.mktemp("kill") / "trials")


@pytest.mark.parametrize("kind", ["kill", "full", "limit"])
def test_a_fault_at_any_write_costs_nothing(harness, kind):
    """The last is the system's own doing: files may not grow beyond so many bytes."""
    assert harness.writes > 200
    points = {
        "kill": range(7, harness.writes, harness.writes // 6),
        "full": range(31, harness.writes, harness.writes // 3),
        "limit": (100_000,),
    }[kind]
    troubles = {point: harness.trial(kind, point) for point in points}
    assert not {point: trouble for point, trouble in troubles.items() if trouble}
