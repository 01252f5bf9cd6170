"""What DVC is shown of trainings as they go on (`live/`)."""

import json
import os

import pandas as pd
import pytest
import yaml
from planned_project import log_line

from study.runs.live import shown_live
from study.runs.side_by_side import Task, run_side_by_side
from study.spec.paths import LIVE

KEYS = ["opmask-R50-voc-0", "maskrcnn-R101-nonvoc-3x-12"]


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "work"


def log(work, key, iteration, loss, folder="smoke-{}-0123456789ab"):
    path = work / folder.format(key) / "metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(log_line(iteration, total_loss=loss))
    return path


def curves():
    return pd.read_csv(LIVE / "losses.csv")


def test_running_trainings_are_metrics_and_curves_while_they_run(work):
    with shown_live(work) as show:
        show(KEYS)
        assert not LIVE.exists()  # nothing is logged yet
        log(work, KEYS[0], 9, 2.5)
        show(KEYS)
        log(work, KEYS[0], 19, 1.5)
        log(work, KEYS[1], 4, 3.5)
        show(KEYS)
        assert json.loads((LIVE / "metrics.json").read_text()) == {
            KEYS[0]: {"iteration": 20, "total_loss": 1.5},
            KEYS[1]: {"iteration": 5, "total_loss": 3.5},
        }
        found = curves().values.tolist()
        assert found == [
            [KEYS[0], "opmask", "R50", "voc", 10, 2.5],
            [KEYS[0], "opmask", "R50", "voc", 20, 1.5],
            [KEYS[1], "maskrcnn", "R101", "nonvoc", 5, 3.5],
        ]
        log(work, KEYS[1], 9, 3.0)
        show(KEYS[1:])  # the other has ended: its curve stays, it no longer is a metric
        assert list(json.loads((LIVE / "metrics.json").read_text())) == KEYS[1:]
        assert len(curves()) == 4
        shown = yaml.safe_load((LIVE / "dvc.yaml").read_text())
        (plot,) = shown["plots"][0].values()
        assert shown["metrics"] == ["metrics.json"] and {plot["x"], *plot["y"].values()} <= {
            *curves().columns
        }
    assert not LIVE.exists()


def test_a_folder_of_other_settings_is_not_the_running_one(work):
    old = log(work, KEYS[0], 99, 0.5, "smoke-{}-ba9876543210")
    os.utime(old, (1, 1))
    log(work, f"x{KEYS[0]}", 3, 0.5, "{}-0123456789ab")
    with shown_live(work) as show:
        show(KEYS)
        assert not LIVE.exists()
        log(work, KEYS[0], 9, 2.5)
        show(KEYS)
        assert curves()["iteration"].tolist() == [10]


def test_what_a_killed_process_left_goes_and_a_disk_that_refuses_stops_nothing(work, monkeypatch):
    LIVE.mkdir()
    (LIVE / "dvc.yaml").write_text("metrics: [metrics.json]")
    with shown_live(work) as show:
        assert not LIVE.exists()
        LIVE.write_text("")  # no folder can be made
        log(work, KEYS[0], 9, 2.5)
        show(KEYS)
        assert LIVE.is_file()
        LIVE.unlink()


def _train(work):
    """Logs, and waits until that is shown."""
    log(work, KEYS[0], 9, 2.5)
    while not (LIVE / "dvc.yaml").is_file():
        pass
    (work / "seen").write_text((LIVE / "metrics.json").read_text())


@pytest.mark.slow
def test_tasks_side_by_side_are_shown(work):
    from functools import partial

    task = Task(KEYS[0], partial(_train, work))
    run_side_by_side([task], [{}], work / "logs")
    assert json.loads((work / "seen").read_text())[KEYS[0]]["iteration"] == 10
    assert not LIVE.exists()
