"""`python -m pipeline.status`: every state, from what trainings really leave behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from planned_project import job_of, log_line, make_params, publish, run_of, write_plan

from pipeline import status
from study.runs import log
from study.runs import progress as library
from study.runs.progress import STATES, Progress, run_progress, seconds_left
from study.runs.work import as_planned, planned
from study.spec.code import code_of
from study.spec.paths import PUBLISHED
from study.spec.run import all_runs, specification


@pytest.fixture
def params(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = make_params()
    write_plan(made)
    return made


def started(params, number=0):
    """The work folder of a run that was started, as trainer.train leaves it."""
    job = job_of(params, number)
    job.work.mkdir(parents=True)
    with FileLock(job.work / "lock0"):
        pass
    return job.work


def state(params, number=0) -> str:
    return run_progress(run_of(params, number), params).state


def test_before_anything_was_done(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_params(warm_start=True)
    status.run([])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if "/" in line]
    assert rows[0] == ["pretrain", "R50", "1/2", "waiting", "0/2"]
    assert rows[-1] == ["maskrcnn-R50-voc-0", "waiting", "0/3"]
    assert lines[-1] == "4 waiting; 0 of 10 iterations done (0 %)"  # R101 needs no warm start
    assert not list(Path.cwd().rglob("*.lock"))


def test_the_run_is_the_one_that_training_will_look_for(params):
    """Without the files of stage `plan`, which may be of other parameters."""
    for run in all_runs(params):
        path = Path("runs/smoke/plan", f"{run.key}.yaml")
        path.write_text(yaml.safe_dump(specification(run, params)))
        assert as_planned(run, params) == planned(run.key, params)


def test_published_then_stale(params):
    publish(job_of(params))
    found = run_progress(run_of(params), params)
    assert (found.state, found.done, found.log.losses["loss_cls"]) == ("published", 3, 1.5)
    assert state(params, 1) == "waiting"
    params["schedules"]["130k"]["max_iter"] *= 2
    assert state(params) == "stale"
    params["schedules"]["130k"]["max_iter"] //= 2
    manifest = Path("data/smoke/manifest.json")
    manifest.write_text(manifest.read_text() + "\n")
    assert state(params) == "stale"


def test_interrupted_resumes_from_its_checkpoint_not_from_its_log(params):
    work = started(params)
    (work / "metrics.json").write_text(log_line(0) + log_line(2))
    assert run_progress(run_of(params), params).done == 0
    (work / "model_0000001.pth").touch()
    found = run_progress(run_of(params), params)
    assert (found.state, found.done, found.total) == ("interrupted", 2, 3)


def test_after_the_last_iteration(params):
    work = started(params)
    (work / "model_final.pth").touch()
    assert state(params) == "interrupted"  # before it was exported
    (work / PUBLISHED).mkdir()
    assert state(params) == "trained"


HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_that_another_process_holds_is_a_training(params):
    work = started(params)
    (work / "model_0000000.pth").touch()
    (work / "metrics.json").write_text(log_line(0, loss_mask=0.7) + '{"iteration": 1, "to')
    command = [sys.executable, "-c", HOLD, str(work / "lock1")]  # of a second machine
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        found = run_progress(run_of(params), params)
        process.stdin.close()
        process.wait(60)
    assert (found.state, found.done, found.total) == ("training", 1, 3)
    assert seconds_left([found]) == [2 * 2.0]  # iterations left × seconds each
    assert found.log.losses == {"total_loss": 3.0, "loss_cls": 1.5, "loss_mask": 0.7}
    assert state(params) == "interrupted"
    with FileLock(work / "lock1", timeout=0):  # looking left no lock behind
        pass


def test_only_the_end_of_a_long_log_is_read(params, monkeypatch):
    work = started(params)
    (work / "metrics.json").write_text("".join(log_line(i) for i in range(9000)))
    (work / "model_0008000.pth").touch()
    monkeypatch.setattr(log, "_TAIL", 300)
    assert log.last_log(work).done == 9000


def test_warm_start_phase_by_phase(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = make_params(warm_start=True)
    write_plan(params)

    def states():
        return [one.state for one in library.progress(params) if one.name.startswith("pretrain")]

    assert states() == ["waiting"] * 3
    first, second = library.phase_folders("R50", params)
    first.mkdir(parents=True)
    (first / "lock0").touch()
    assert states() == ["interrupted", "waiting", "waiting"]
    (first / "model_final.pth").write_text("weights")
    assert states() == ["trained", "waiting", "waiting"]
    assert library.phase_folders("R50", params)[1] != second  # which starts from those weights
    scale = params["scales"]["smoke"]
    config, phase = scale["config"], scale["warm_start"]["R50"]["phases"][0]
    scale["config"] = {**config, next(iter(phase)): "what the phase sets itself"}
    assert library.phase_folders("R50", params)[0] == first
    scale["config"] = {**config, "MODEL.FPN.OUT_CHANNELS": 7}
    assert library.phase_folders("R50", params)[0] != first
    scale["config"] = config
    weights = Path("runs/smoke/pretrain/weights/R50.pth")
    weights.parent.mkdir(parents=True)
    weights.touch()
    about = Path("runs/smoke/pretrain/R50/provenance.json")
    about.parent.mkdir()
    about.write_text('{"code": "of an earlier day"}')
    assert states() == ["trained", "stale", "waiting"]
    about.write_text(json.dumps({"code": code_of("pipeline.pretrain")}))
    assert states() == ["published", "published", "waiting"]
    publish(job_of(params))
    assert state(params) == "published"
    params["scales"]["smoke"]["warm_start"]["R50"]["phases"][0]["SOLVER.MAX_ITER"] = 5
    assert states() == ["stale", "stale", "waiting"]
    assert state(params) == "stale"  # its initial weights are to be made again


@pytest.mark.slow
def test_phases_are_where_stage_pretrain_trains_them(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from opmask.training import export, trainer, warm_start
    from pipeline import pretrain

    monkeypatch.chdir(tmp_path)
    params = make_params(warm_start=True)
    write_plan(params)

    def train(cfg, data, work, hardware, *, description):
        work.mkdir(parents=True)
        (work / "model_final.pth").write_text(description)
        return work / "model_final.pth"

    def export_training(work, out, about):
        out.mkdir(parents=True)
        (out / "model_final.pth").touch()

    def deepen(shallow, cfg, path):
        path.write_text("deep")
        return path

    monkeypatch.setattr(trainer, "train", train)
    monkeypatch.setattr(export, "export_training", export_training)
    monkeypatch.setattr(warm_start, "deepen", deepen)
    monkeypatch.setattr("study.runs.provenance.provenance", lambda *_, **__: "")
    Path("runs/smoke/pretrain/weights").mkdir(parents=True)
    for backbone in params["scales"]["smoke"]["warm_start"]:
        works = pretrain.pretrain(backbone, params)
        assert works == library.phase_folders(backbone, params)


def test_work_of_other_settings_is_named(params, capsys):
    work = started(params)
    status.run([])
    assert "Of other settings" not in capsys.readouterr().out
    make_params(
        methods=params["methods"] | {"opmask": {"mask_head": "PriorMaskHead", "mask_convs": 5}}
    )
    status.run([])
    out = capsys.readouterr().out
    assert f"may be deleted if not wanted back: {work}" in out


def test_page_lines_up_losses(params):
    losses = {"loss_rpn_cls": 1, "total_loss": 7, "loss_z": 2}
    found = [
        Progress("a-0", "x", "training", 10, 30, log.Log(9, 0.5, losses)),
        Progress("b-0", "x", "waiting", 0, 30),
    ]
    header, _, first, second = status.table(found).splitlines()
    assert header.split() == ["Run", "State", "Iteration", "Left", "loss", "z", "rpn_cls"]
    assert first.split() == ["a-0", "training", "10/30", "10", "s", "7.000", "2.000", "1.000"]
    assert second.split() == ["b-0", "waiting", "0/30"]
    text = status.summary(found)
    assert text == "1 training, 1 waiting; 10 of 60 iterations done (16 %)"


def test_watching_repeats_until_ctrl_c(params, monkeypatch, capsys):
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        publish(job_of(params)) if len(waits) == 1 else None
        if len(waits) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", sleep)
    status.run(["--watch", "3"])
    first, second = capsys.readouterr().out.split("Scale smoke")[1:]
    assert "1 published" not in first and "1 published, 1 waiting" in second
    assert waits == [3, 3]


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_watching_needs_a_time(params, seconds, capsys):
    with pytest.raises(SystemExit) as stop:
        status.run([f"--watch={seconds}"])
    assert stop.value.code == 2 and "--watch" in capsys.readouterr().err


def test_help_explains_every_state(capsys):
    with pytest.raises(SystemExit):
        status.run(["--help"])
    text = capsys.readouterr().out
    assert all(f"  {name}" in text for name in STATES)


@pytest.mark.slow
def test_needs_no_torch():
    code = "import sys, pipeline.status, pipeline.outline; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.lower()) is False


def test_changed_data_trains_in_another_folder(params):
    """Images too: a checkpoint or detections of the old ones must not be taken for the new."""
    before = job_of(params).work
    manifest = Path("data/smoke/manifest.json")
    content = json.loads(manifest.read_text())
    content["train"]["images_sha256"] = "of other pixels"
    manifest.write_text(json.dumps(content))
    assert job_of(params).work != before
