"""The plan: which results need which runs, what is done or cached, how long the rest takes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from planned_project import RUNS, job_of, log_line, make_params, publish, run_of, write_plan
from study.runs.dvc_records import DvcCache
from study.runs.pace import Pace, makespan

from pipeline import outline as command
from study import paper
from study.analysis import class_points, contrasts, gallery, search
from study.figures import figure6
from study.labels import DIRECTIONS
from study.runs import folders, pace
from study.runs.outline import (
    NEEDS,
    abbreviate,
    configurations,
    incomplete,
    needed_by,
    outline,
    total,
)
from study.spec.params import load_params
from study.spec.run import all_runs, parse_run
from study.tables.table2_rows import is_row

ROOT = Path(__file__).parents[1]
UNKNOWN = {}
KNOWN = {"opmask-R50": Pace(10, 0, "x"), "maskrcnn-R50": Pace(20, 0.5, "x")}


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
            assert {contrast.a, contrast.b} == names("§ 4.4")
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
    assert "what is unknown: pretrain-R50, opmask-R50, maskrcnn-R50" in text
    assert "Lack so many of their runs in params.yaml: Table 1 (6)" in text


def facts(line) -> tuple[str, int, float]:
    return line.progress.state, line.progress.left, line.seconds


def test_states_and_time_left(params):
    first, second = outline(params, KNOWN)
    assert facts(first) == ("waiting", 3, 3 * 10)
    assert second.seconds == 3 * 20 + 10 * 0.5  # and ten validation images
    job = job_of(params)
    job.work.mkdir(parents=True)
    (job.work / "lock0").touch()
    (job.work / "model_0000001.pth").touch()
    (job.work / "metrics.json").write_text(log_line(1))
    first, _ = outline(params, KNOWN)
    assert facts(first) == ("interrupted", 1, 10)
    shutil.rmtree(job.work)
    publish(job)
    first, _ = outline(params, KNOWN)
    assert facts(first) == ("published", 0, 0)


def test_totals(params, capsys, monkeypatch):
    monkeypatch.setattr(command, "places", lambda *_: [{}, {}])
    lines = outline(params, KNOWN)
    assert total(lines, 2).runs == 65 and total(lines, 1).runs == 95
    assert total(outline(params, UNKNOWN), 2).unknown == ["opmask-R50", "maskrcnn-R50"]
    publish(job_of(params))
    command.run([])
    text = capsys.readouterr().out
    assert "published: 1, in DVC's cache: 0, left: 1 with 3 iterations" in text
    publish(job_of(params, 1))
    command.run([])
    assert "nothing is left to train" in capsys.readouterr().out


@given(st.lists(st.integers(1, 9), max_size=9), st.integers(1, 4))
def test_makespan_is_that_of_a_simulated_sweep(durations, places):
    waiting, running, now = sorted(durations), [], 0
    while waiting or running:
        while waiting and len(running) < places:
            running.append(waiting.pop())
        now += 1
        running = [left - 1 for left in running if left > 1]
    assert makespan(durations, places) == now


# Times.


def test_finished_runs_give_medians(params):
    for number, wall in enumerate((30, 60, 300)):
        about = {"run": "opmask-R50-voc", "iterations": 3, "wall_s": wall}
        folder, evaluated = (Path("runs/smoke", s, f"x-{number}") for s in ("train", "evaluate"))
        folder.mkdir(parents=True)
        (folder / "provenance.json").write_text(json.dumps(about))
        evaluated.mkdir(parents=True)
        about = json.dumps({"seconds": wall, "images": 10})
        (evaluated / "provenance.json").write_text(about)
    assert pace.finished_paces(params) == {"opmask-R50": Pace(20.0, 6.0, "finished runs")}


def test_a_warm_start_of_another_length_is_scaled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = make_params(warm_start=True)
    write_plan(params)
    folder = Path("runs/smoke/pretrain/R50")
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text('{"wall_s": 100, "iterations": 4}')  # now 2
    phases = outline(params, pace.known_paces(params))[:2]
    assert [facts(phase) for phase in phases] == [("waiting", 2, 25)] * 2


def test_a_training_under_way_gives_its_own_pace(params):
    job = job_of(params)
    job.work.mkdir(parents=True)
    (job.work / "lock0").touch()
    (job.work / "metrics.json").write_text(log_line(0))
    assert pace.known_paces(params) == {"opmask-R50": Pace(2.0, 0.0, "trainings under way")}
    publish(job_of(params, 1))
    found = pace.known_paces(params)
    assert found["maskrcnn-R50"] == Pace(10.0, 0.0, "finished runs")
    assert found["opmask-R50"].source == "trainings under way"


# DVC's cache, made by DVC.

STAGE = """
import json, pathlib, sys
out = pathlib.Path("runs/smoke/train/opmask-R50-voc-0")
out.mkdir(parents=True, exist_ok=True)
work = pathlib.Path("work_name").read_text()
(out / "provenance.json").write_text(json.dumps({"work": work}))
(out / "losses").mkdir(exist_ok=True)
(out / "losses/loss.tsv").write_text(work)
"""


@pytest.mark.slow
def test_what_dvc_can_restore(params, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))

    def dvc(*words):
        subprocess.run([sys.executable, "-m", "dvc", *words], check=True, capture_output=True)

    Path("pipeline").mkdir()
    Path("pipeline/train.py").write_text(STAGE)  # what the stage runs here, where it is first
    out = "runs/smoke/train/opmask-R50-voc-0"
    stage = {"cmd": "python -m pipeline.train opmask-R50-voc-0"}
    stage |= {"deps": ["work_name"]}
    stage |= {"outs": [f"{out}/provenance.json", f"{out}/losses"]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": stage}}))
    now, other = job_of(params), job_of(params, 1).work.name
    dvc("init", "--no-scm", "-q")
    assert not DvcCache.here().has_run(now)
    for name in (now.work.name, other):  # so that the first is in the run cache alone
        Path("work_name").write_text(name)
        dvc("repro")
    assert other in Path(out, "provenance.json").read_text()
    assert DvcCache.here().has_run(now)
    assert [line.progress.state for line in outline(params, UNKNOWN)] == [
        "in DVC's cache",
        "waiting",
    ]

    with monkeypatch.context() as edited:
        edited.setattr(folders, "code_of", lambda module: f"another {module}")
        assert not DvcCache.here().has_run(job_of(params))
    assert DvcCache.here().has_run(job_of(params))
    shutil.rmtree(".dvc/cache/files")
    assert not DvcCache.here().has_run(now)


def test_outside_of_dvc(params):
    assert not DvcCache.here().has_run(job_of(params))


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
    lines = outline(make_params(seeds=[0, 4]), UNKNOWN)
    assert [line.progress.name for line in lines] == [
        f"{name}-{seed}" for name in RUNS for seed in (0, 4)
    ]
    assert {line.progress.kind for line in lines} == {"opmask-R50", "maskrcnn-R50"}
    assert run_of(make_params(seeds=[4])).key == "opmask-R50-voc-4"
