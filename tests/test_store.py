"""What was made of single runs is kept beside DVC's outputs: whole, and once on the disk."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from planned_project import finish, job_of, make_params, publish, run_of, write_plan

from opmask.errors import UserError
from pipeline import command
from pipeline import train as stage
from study.runs import store as module
from study.runs.dvc_files import mend_run_cache, require_lock
from study.runs.progress import run_progress
from study.runs.store import INDEX, Store, adopt_all, phases, trainings
from study.spec.paths import PUBLISHED, Paths

KEY = "opmask-R50-voc-0"
OUT = Path("runs/smoke/train")


@pytest.fixture
def params(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    made = make_params()
    write_plan(made)
    return made


@pytest.fixture
def store() -> Store:
    return trainings(Paths("smoke"))


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_output_and_store_share_the_disk_until_dvc_copies_and_then_again(params, store):
    job = job_of(params)
    publish(job)
    ours, theirs = job.work / PUBLISHED / "metrics.json", job.out / "metrics.json"
    assert inode(ours) == inode(theirs)
    content = theirs.read_text()
    copy = shutil.copytree(OUT, Path("copy"))  # as DVC does with what is linked
    shutil.rmtree(OUT)
    copy.rename(OUT)
    assert inode(ours) != inode(theirs)
    adopt_all(Paths("smoke"))
    assert inode(ours) == inode(theirs) and ours.read_text() == content
    assert store.has(job.work.name)


def test_without_links_the_output_is_a_copy(params, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError

    monkeypatch.setattr(module.os, "link", refuse)
    job = job_of(params)
    publish(job)
    assert (job.out / "metrics.json").read_text() == (
        job.work / PUBLISHED / "metrics.json"
    ).read_text()


def test_what_was_pulled_is_adopted(params, store):
    """Else DVC clears it before stage `train`, which would train all runs for the sake of one."""
    job = job_of(params)
    publish(job)
    shutil.rmtree("work")
    assert not store.has(job.work.name)
    adopt_all(Paths("smoke"))
    shutil.rmtree(OUT)
    assert store.has(job.work.name)
    publish(job)
    assert job.is_published()


def test_what_is_damaged_is_not_adopted(params, store):
    job = job_of(params)
    publish(job)
    shutil.rmtree("work")
    (job.out / "metrics.json").write_text("{}")
    adopt_all(Paths("smoke"))
    assert not Path("work").exists()


def test_a_run_that_was_made_again_is_not_replaced(params):
    job = job_of(params)
    publish(job)
    shutil.rmtree(job.work)
    finish(job, wall_s=99)  # the same run, in another time
    adopt_all(Paths("smoke"))
    assert json.loads((job.work / PUBLISHED / "provenance.json").read_text())["wall_s"] == 99


HOSTILE = ["/", "..", "../..", "", ".", "../victim", "a/../../victim", "a/b", "x\0y"]
HOSTILE += [None, 7, ["a"], {}, f"smoke-{KEY}-../../../victim", f"smoke-{KEY}-0123456789ab/.."]
HOSTILE += ["smoke-another-0-0123456789ab", "ABSOLUTE"]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_from_a_result_is_ever_a_path(params, name):
    """Seen: `provenance.json: work` named a folder that was then deleted."""
    job, victim = job_of(params), Path.cwd().parent / "victim"
    victim.mkdir()
    (victim / "precious").touch()
    Path("work/smoke-someone-else").mkdir(parents=True)
    name = str(victim) if name == "ABSOLUTE" else name
    finish(job, work=name)
    publish(job)
    (OUT / INDEX).write_text(json.dumps({KEY: name, "../../victim": name, "..": "smoke-..-abc"}))
    before = sorted(Path.cwd().parent.rglob("*"))
    assert not job.is_published()
    assert run_progress(run_of(params), params).state == "trained"
    adopt_all(Paths("smoke"))
    assert sorted(Path.cwd().parent.rglob("*")) == before


@pytest.mark.parametrize("content", ["", "[]", "3", '"x"', "{", "null", '{"work": 1}'])
def test_a_broken_record_is_no_published_run(params, content):
    job = job_of(params)
    job.out.mkdir(parents=True)
    (job.out / "provenance.json").write_text(content)
    (OUT / INDEX).write_text(content)
    adopt_all(Paths("smoke"))
    assert not job.is_published() and not Path("work").exists()


def test_the_newest_finished_run_is_kept(params, store):
    job, other = job_of(params), job_of(params, 1)
    earlier, unfinished, held = (
        Path("work", f"smoke-{KEY}-{digit * 12}") for digit in ("0", "1", "2")
    )
    for path in (earlier, held):
        (path / PUBLISHED).mkdir(parents=True)
    unfinished.mkdir()
    foreign = [Path("work", f"{name}-{'0' * 12}") for name in (f"own-{KEY}", "smoke-mine")]
    for path in foreign:
        (path / PUBLISHED).mkdir(parents=True)
    finish(job)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "is_locked", lambda work: work == held)
        publish(other)
        assert earlier.exists()
        publish(job, other)
    assert not earlier.exists()
    assert all(path.exists() for path in (unfinished, held, *foreign, job.work, other.work))


def test_links_in_work_are_not_followed(params):
    job = job_of(params)
    elsewhere = Path.cwd().parent / "elsewhere"
    (elsewhere / PUBLISHED).mkdir(parents=True)
    Path("work").mkdir()
    Path("work", f"smoke-{KEY}-{'0' * 12}").symlink_to(elsewhere)
    publish(job)
    assert (elsewhere / PUBLISHED).is_dir()


def test_what_is_half_removed_is_removed_at_last(params):
    removed = Path("work/.removed-smoke-x")
    removed.mkdir(parents=True)
    (removed / "weights").touch()
    publish(job_of(params))
    assert not removed.exists()


def test_earlier_phases_of_the_warm_start_are_forgotten(params):
    names = ("R50-1-aaaaaaaaaaaa", "R50-1-bbbbbbbbbbbb", "R50-2-bbbbbbbbbbbb")
    kept, earlier, other = (Path("work", f"smoke-pretrain-{name}") for name in names)
    for path in (kept, earlier, other):
        path.mkdir(parents=True)
        (path / "model_final.pth").touch()
    phases(Paths("smoke")).forget({"R50-1": kept.name})
    assert kept.exists() and other.exists() and not earlier.exists()


def test_stage_train_takes_finished_runs_from_the_store(params, monkeypatch):
    jobs = [job_of(params, number) for number in (0, 1)]
    for job in jobs:
        Path("runs/smoke/plan", f"{job.key}.yaml").write_text(json.dumps(job.specification))
        finish(job)
        (job.work / "model_0000002.pth").touch()
    trained = []
    monkeypatch.setattr(stage, "train", lambda left, *_: trained.extend(job.key for job in left))
    stage.run([])
    assert not trained and all(job.is_published() for job in jobs)
    assert [path.name for path in jobs[0].work.iterdir()] == [PUBLISHED]
    shutil.rmtree(jobs[1].work)
    stage.run([jobs[1].key])  # by name: trained, and nothing published
    assert trained == [jobs[1].key] and json.loads((OUT / INDEX).read_text()).keys() == {
        job.key for job in jobs
    }
    params["hardware"] |= {"machine_rank": 1, "machines": 2, "dist_url": "tcp://first:1"}
    make_params(hardware=params["hardware"])
    shutil.rmtree(OUT)
    stage.run([])
    assert trained == [jobs[1].key] * 2 and not OUT.exists()


def test_a_damaged_run_is_named_and_trained_again(params, monkeypatch):
    job = job_of(params)
    make_params([job.key[:-2]])
    Path("runs/smoke/plan", f"{job.key}.yaml").write_text(json.dumps(job.specification))
    finish(job)
    (job.work / PUBLISHED / "metrics.json").write_text("")
    trained = []

    def train(jobs, *_):
        trained.extend(one.key for one in jobs)
        shutil.rmtree(job.work)
        finish(job)

    monkeypatch.setattr(stage, "train", train)
    with pytest.warns(UserWarning, match=r"published/metrics.json: damaged.*it is made again"):
        stage.run([])
    assert trained == [KEY] and job.is_published()


def test_an_experiment_in_a_copy_uses_the_repository_s_store(tmp_path):
    for copy in (".dvc/tmp/exps/standalone/tmpab12", ".dvc/tmp/exps/tmp1"):
        paths = Paths("smoke", tmp_path / copy)
        assert paths.work == tmp_path / "work" and trainings(paths).keeps_all
        assert paths.train == tmp_path / copy / "runs/smoke/train"
    here = Paths("smoke", tmp_path)
    assert here.work == tmp_path / "work" and not trainings(here).keeps_all


# dvc.lock, and DVC's run cache.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("schema: '2.0'\nstages:\n<<<<<<< HEAD\n  a: 1\n=======\n  a: 2\n>>>>>>> x\n", "conflicts"),
        ("schema: '2.0'\nstages:\n  a:\n    deps: [", "is not whole"),
    ],
)
def test_a_broken_dvc_lock_is_noticed_with_its_remedy(content, said, params, monkeypatch, capsys):
    monkeypatch.setattr("study.runs.dvc_files._WAIT", 0)
    Path("dvc.lock").write_text(content)
    ran = []
    with pytest.raises(SystemExit) as stop:
        command(ran.append)([])
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and not ran and len(lines) == 1
    assert said in lines[0] and "git checkout dvc.lock, then dvc repro" in lines[0]


@pytest.mark.parametrize(
    "name", ["plan", "train", "evaluate", "code", "status", "outline", "params"]
)
def test_every_command_notices(name, params, monkeypatch, capsys):
    monkeypatch.setattr("study.runs.dvc_files._WAIT", 0)
    Path("dvc.lock").touch()
    with pytest.raises(SystemExit):
        __import__(f"pipeline.{name}", fromlist="run").run([])
    assert "dvc.lock is empty" in capsys.readouterr().err


def test_a_dvc_lock_that_is_being_written_is_waited_for(params, monkeypatch):
    Path("dvc.lock").touch()
    whole = "schema: '2.0'\nstages: {}\n"
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        Path("dvc.lock").write_text(whole)

    monkeypatch.setattr("study.runs.dvc_files.time.sleep", sleep)
    require_lock()
    assert len(waits) == 1


def test_no_dvc_lock_is_none_too_many(params):
    require_lock()
    Path("dvc.lock").write_text("schema: '2.0'\n")
    require_lock()


def test_only_empty_folders_leave_the_run_cache(tmp_path):
    whole, empty = (tmp_path / "runs/ab" / name for name in ("ab1", "ab2"))
    for folder in (whole, empty):
        folder.mkdir(parents=True)
    (whole / "entry").write_text("cmd: x")
    mend_run_cache(tmp_path)
    assert (whole / "entry").is_file() and not empty.exists()
    mend_run_cache(tmp_path / "nowhere")


def test_needs_no_torch():
    code = "import sys, json, pipeline.train; print(json.dumps('torch' in sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert json.loads(done.stdout) is False


def test_a_run_is_not_trained_by_other_code_than_gave_its_folder_the_name(params):
    from study.runs.training import train_planned

    job = job_of(params)
    Path("runs/smoke/plan", f"{job.key}.yaml").write_text(json.dumps(job.specification))
    with pytest.raises(UserError, match="changed meanwhile: repeat dvc repro"):
        train_planned(job.key, f"smoke-{job.key}-0123456789ab")
    assert not Path("work").exists()
