"""The plan: which results need which runs, what is done, how long the rest takes."""

import math
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planned_project import RUNS, job_of, log_line, make_params, publish, run_of, write_plan

from pipeline import outline as command
from study import paper
from study.analysis import class_points, contrasts, gallery, search
from study.figures import figure6
from study.labels import DIRECTIONS
from study.runs.log import Log
from study.runs.outline import NEEDS, abbreviate, configurations, incomplete, needed_by
from study.runs.progress import Progress, makespan, progress, seconds_left
from study.spec.params import load_params
from study.spec.run import all_runs, parse_run
from study.tables.table2_rows import is_row

ROOT = Path(__file__).parents[1]


@pytest.fixture
def params(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = make_params()
    write_plan(made)
    return made


def names(result: str, schedule="130k") -> set[str]:
    return {"-".join(one[:3]) for one in configurations(result, schedule)}


# NEEDS against the modules that make the results.


def test_table_2_needs_its_rows():
    params = make_params_without_file()
    every = [
        parse_run(f"{method}-{backbone}-{split}", 0, params)
        for method in params["methods"]
        for backbone in ("R50", "R101")
        for split in ("voc", "nonvoc", "voc20", "all")
    ]
    assert names("Table 2") == {run.name for run in every if is_row(run, "130k")}


def make_params_without_file() -> dict:
    return load_params(ROOT / "params.yaml") | {"schedule": "130k"}


def test_tables_1_and_3_need_the_rows_of_the_paper():
    rows = paper.load("table1")[["backbone", "supervised"]].drop_duplicates()
    cells = set(rows.itertuples(index=False, name=None))
    assert {one[1:3] for one in configurations("Table 1", "130k")} == cells
    rows = paper.load("table3")[["backbone", "schedule", "supervised"]]
    found = {("opmask", b, s, schedule) for b, schedule, s in rows.itertuples(index=False)}
    assert configurations("Table 3", "3x") == found


def test_figures_need_what_they_draw():
    assert names("Figure 3") == {
        f"{m}-{class_points.BACKBONE}-{s}" for m in class_points.MODELS for s in DIRECTIONS
    }
    assert names("Figure 6") == {
        f"{m}-{figure6.BACKBONE}-{s}" for m in ("maskrcnn", "opmask") for s in figure6.POINTS
    }
    for figure, supervised in gallery.DIRECTION_OF.items():
        result = figure.replace("figure", "Figure ")
        assert {one[2] for one in configurations(result, "130k")} == {supervised}


def test_every_contrast_and_the_search_have_their_runs():
    every = set().union(*(names(result) for result in NEEDS))
    for contrast in contrasts.CONTRASTS:
        assert {contrast.a, contrast.b} <= every
        if contrast.section == "4.4":
            assert {contrast.a, contrast.b} <= names("§ 4.4") | names("control")
        if contrast.name.startswith(("prior", "depth")):
            assert {contrast.a, contrast.b} <= names("control")
    assert {one[:3] for one in configurations("§ 4.5", "130k")} == set(search.PAPER_RUNS)
    assert {one[3] for one in configurations("§ 4.5", "130k")} == {"search"}


def test_needs_follow_the_global_schedule():
    params = make_params_without_file()
    plain, named = parse_run("opmask-R50-voc", 0, params), parse_run("opmask-R50-voc-3x", 0, params)
    assert needed_by(plain, "130k") == ["Table 1", "Table 2", "Table 3", "Figure 3", "Figure 6"] + [
        "control"
    ]
    assert needed_by(named, "130k") == ["Table 3"]
    assert "Table 1" in needed_by(named, "3x") and "Table 1" not in needed_by(plain, "3x")
    mine = parse_run("opmask-R50-mine", 0, params | {"splits": {"mine": ["cat"]}})
    assert abbreviate(needed_by(mine, "130k")) == "yours"


def test_what_lacks_runs():
    params = make_params_without_file() | {"seeds": [0, 1]}
    short = ["maskrcnn-R50-voc", "maskrcnn-R50-nonvoc", "opmask-R50-voc-130k", "opmask-R50-nonvoc"]
    lacking = incomplete(all_runs(params | {"runs": short}), "130k")
    assert "Figure 3" not in lacking and lacking["Table 1"] == 4 and lacking["§ 4.4"] == 1


def test_abbreviation():
    assert abbreviate(["Table 1", "Table 3", "Figure 6", "§ 4.4"]) == "Tables 1 3, Figure 6, § 4.4"


# What is done, and what is left.


def test_a_fresh_project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "places", lambda *_: [{}, {}])
    make_params(warm_start=True)
    command.run([])
    text = capsys.readouterr().out
    rows = {line.partition("  ")[0]: line for line in text.splitlines() if " waiting " in line}
    phases = ["pretrain R50 1/2", "pretrain R50 2/2"]  # no run needs R101's
    assert list(rows) == [*phases, *(f"{name}-0" for name in RUNS)]
    assert " 2 " in rows["pretrain R50 1/2"] and "Figures 3 6" in rows["opmask-R50-voc-0"]
    assert all(line.endswith("unknown") for line in rows.values())
    assert "left: 4 with 10 iterations" in text and "2 at a time" in text
    kinds = "pretrain-R50-1, pretrain-R50-2, opmask-R50, maskrcnn-R50"
    assert f"what is unknown: {kinds}" in text
    assert "Lack so many of their runs in params.yaml: Table 1 (6)" in text


def test_what_is_left_and_how_long_it_takes(params, capsys, monkeypatch):
    monkeypatch.setattr(command, "places", lambda *_: [{}, {}])
    job, other = job_of(params), job_of(params, 1)
    job.work.mkdir(parents=True)
    (job.work / "lock0").touch()
    (job.work / "model_0000001.pth").touch()
    (job.work / "metrics.json").write_text(log_line(1, time=10.0))
    found = progress(params)
    assert [(one.state, one.left) for one in found] == [("interrupted", 1), ("waiting", 3)]
    assert seconds_left(found)[0] == 10 and math.isnan(seconds_left(found)[1])
    command.run([])
    text = capsys.readouterr().out
    assert "of which done: 0, left: 2 with 4 iterations" in text
    assert "runs, 2 at a time, 10 s), and what is unknown: maskrcnn-R50" in text
    shutil.rmtree(job.work)
    publish(job)
    command.run([])
    assert "of which done: 1, left: 1 with 3 iterations" in capsys.readouterr().out
    publish(job, other)
    command.run([])
    assert "nothing is left to train" in capsys.readouterr().out


@given(st.lists(st.integers(1, 9), max_size=9), st.integers(1, 4))
def test_makespan_is_that_of_a_simulation(durations, places):
    waiting, running, now = sorted(durations), [], 0
    while waiting or running:
        while waiting and len(running) < places:
            running.append(waiting.pop())
        now += 1
        running = [left - 1 for left in running if left > 1]
    assert makespan(durations, places) == now


# Times.


def progress_of(kind: str, state: str, done: int, seconds: float = math.nan) -> Progress:
    return Progress("x", kind, state, done, 10, Log(done, seconds))


def test_the_median_of_a_kind_tells_how_long_others_take():
    """What a training logs an iteration: not its whole time, which a shared trunk makes shorter."""
    found = [progress_of("a", "published", 10, seconds) for seconds in (1.0, 2.0, 30.0)]
    found += [progress_of("a", "waiting", 0), progress_of("a", "training", 4, 2.0)]
    found += [progress_of("b", "waiting", 0), progress_of("b", "trained", 10)]
    *over, waiting, training, unknown, trained = seconds_left(found)
    assert over == [0, 0, 0] and trained == 0
    assert (waiting, training) == (20, 12) and math.isnan(unknown)


def test_a_run_that_is_out_of_date_still_gives_its_pace(params):
    publish(job_of(params))
    params["schedules"]["130k"]["max_iter"] *= 2
    found = progress(params)
    assert (found[0].state, found[0].total) == ("stale", 5)
    assert seconds_left(found)[0] == 5 * 2.0


def test_gpus_that_a_training_sees(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    assert command.gpus_present() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert command.gpus_present() == 0


def test_bad_parameters_are_one_line(params, capsys):
    make_params(["opmusk-R50-voc"])
    with pytest.raises(SystemExit) as stop:
        command.run([])
    assert stop.value.code == 2
    assert (
        "runs: opmusk-R50-voc: method: 'opmusk' is unknown; did you mean 'opmask'?"
        in capsys.readouterr().err
    )


def test_runs_of_several_seeds_have_a_line_each(params):
    found = progress(make_params(seeds=[0, 4]))
    assert [one.name for one in found] == [f"{name}-{seed}" for name in RUNS for seed in (0, 4)]
    assert {one.kind for one in found} == {"opmask-R50", "maskrcnn-R50"}
    assert run_of(make_params(seeds=[4])).key == "opmask-R50-voc-4"
