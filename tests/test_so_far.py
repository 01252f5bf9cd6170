"""The headline runs are trained first, and their Table 1 does not wait for the others."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from parameters import PARAMS, write_params
from test_report import BASELINE_AP, OPMASK_AP, write_ground_truth, write_run
from test_side_by_side import job, log_times

from pipeline import so_far, train
from study.runs import train_all
from study.spec.paths import Paths
from study.spec.run import all_runs, headline_runs


def test_of_each_headline_run_the_first_training():
    params = PARAMS | {"runs": ["fasterrcnn-R50-all", "opmask-R50-voc"], "seeds": [3, 4]}
    assert [run.key for run in headline_runs(params)] == ["opmask-R50-voc-3"]
    assert headline_runs(params | {"suites": {}}) == []


@pytest.mark.slow
def test_others_wait_for_the_first_and_what_is_called_then(tmp_path, monkeypatch):
    """By the real scheduler, on two places: the longer ones do not begin before `then` was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_all, "PRELOADED", [])
    lengths = {"a": 1, "b": 1, "c": 9, "d": 5}
    jobs = [job(key, length, tmp_path) for key, length in lengths.items()]
    seen = []

    def then():
        seen.append({key for key in lengths if (tmp_path / "logs" / f"{key}.log").exists()})

    places = [{"P": "x"}, {"P": "y"}]
    train_all.train_all(jobs, places, tmp_path / "logs", log_times, {"a", "b", "elsewhere"}, then)
    assert seen == [{"a", "b"}]
    assert all((tmp_path / "logs" / f"{key}.log").read_text() for key in lengths)


@pytest.mark.parametrize(("places", "keys", "waits"), [(2, "cab", True), (3, "cab", False),
                                                       (2, "ab", False)])  # fmt: skip
def test_others_wait_only_where_the_first_keep_all_places_busy(places, keys, waits, monkeypatch):
    found = []
    monkeypatch.setattr(train, "places_for", lambda *_: [{}] * places)
    monkeypatch.setattr(train, "train_all", lambda *given: found.append(given[-1]))
    jobs = [SimpleNamespace(key=key) for key in keys]
    train.train(jobs, 3, {"launcher": "local"}, Paths("smoke"), {"a", "b"})
    assert found == [train.so_far if waits else None]


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
