"""The headline runs are trained first, and their Table 1 does not wait for the others."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from parameters import PARAMS, write_params
from test_report import BASELINE_AP, OPMASK_AP, write_ground_truth, write_run

from pipeline import so_far, train
from study.spec.paths import Paths
from study.spec.run import all_runs, headline_runs


def test_of_each_headline_run_the_first_training():
    params = PARAMS | {"runs": ["fasterrcnn-R50-all", "opmask-R50-voc"], "seeds": [3, 4]}
    assert [run.key for run in headline_runs(params)] == ["opmask-R50-voc-3"]
    assert headline_runs(params | {"suites": {}}) == []


@pytest.mark.parametrize(
    ("places", "steps"),
    [(2, [["a", "b"], "pipeline.so_far", ["c"]]), (3, [["c", "a", "b"]])],
)
def test_others_wait_where_these_keep_all_places_busy(places, steps, monkeypatch):
    found = []
    monkeypatch.setattr(train, "places_for", lambda *_: [{}] * places)
    monkeypatch.setattr(train.subprocess, "run", lambda words, check: found.append(words[-1]))
    monkeypatch.setattr(
        train, "train_all", lambda jobs, *_: found.append([job.key for job in jobs])
    )
    jobs = [SimpleNamespace(key=key) for key in "cab"]
    train.train(jobs, 3, {"launcher": "local"}, Paths("smoke"), {"a", "b"})
    assert found == steps
    found.clear()
    train.train(jobs[1:], 3, {"launcher": "local"}, Paths("smoke"), {"a", "b"})  # no others
    assert found == [["a", "b"]]


def test_its_table_is_that_of_the_trained_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    right = {"maskrcnn-R50-voc": 2, "opmask-R50-voc": 6, "opmask-R50-nonvoc": None}
    params = PARAMS | {"runs": list(right), "bootstrap": {"resamples": 40, "seed": 0}}
    write_params(params)
    write_ground_truth(tmp_path / "val.json")
    for run in all_runs(params):
        if right[run.name] is not None:
            write_run(tmp_path, run, right[run.name])
    evaluated = Paths.of(params).evaluate

    def collect(wanted, out, *_):
        for key in wanted:
            shutil.copytree(evaluated / key, out / key)

    store = SimpleNamespace(
        has=lambda name: right[name.removesuffix("-0")] is not None, folder=Path
    )
    monkeypatch.setattr(so_far, "trainings", lambda _: store)
    monkeypatch.setattr(so_far, "planned", lambda key, _: SimpleNamespace(work=Path(key)))
    monkeypatch.setattr(so_far, "measurement", lambda key, *_: key)
    monkeypatch.setattr(so_far, "collect", collect)
    Path("work").mkdir()
    so_far.run([])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("So far: R-50-FPN, voc → non-voc: ")
    assert f"({BASELINE_AP:.2f} → {OPMASK_AP:.2f})" in line
    assert f"{OPMASK_AP:.2f}" in Path("work/table1.md").read_text()
    assert [path.name for path in Path("work").iterdir()] == ["table1.md"]
