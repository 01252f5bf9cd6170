"""Work folders are cleared when DVC has recorded their run, by what they hold and not by names."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from planned_project import job_of, make_params, publish, run_of, write_plan
from study.runs.dvc_records import DvcCache, mend_run_cache
from study.runs.recorded import clear_recorded, work_of
from study.runs.status import run_progress

from opmask.errors import UserError
from pipeline import evaluate
from study.spec.paths import PUBLISHED, Paths

KEY = "opmask-R50-voc-0"
SUMS = f"runs/smoke/train/{KEY}/SHA256SUMS"


@pytest.fixture
def params(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    made = make_params()
    write_plan(made)
    return made


def md5(path: str | Path) -> str:
    return hashlib.md5(Path(path).read_bytes()).hexdigest()


def record(**stages) -> None:
    """A dvc.lock with these stages: dependencies by path, each at its present content."""
    content = {
        name: {"cmd": "x", "deps": [{"path": str(p), "md5": md5(p)} for p in deps], "outs": outs}
        for name, (deps, outs) in stages.items()
    }
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": content}))


def test_a_run_is_cleared_once_its_evaluation_is_recorded(params):
    job, other = job_of(params), job_of(params, 1)
    for one in (job, other):
        publish(one)
    clear_recorded(params)
    assert (job.work / PUBLISHED / "provenance.json").is_file()
    record(**{f"evaluate@{KEY}": ([SUMS], [])})
    clear_recorded(params)
    assert not job.work.exists() and (other.work / PUBLISHED).is_dir()
    assert Path(SUMS).is_file()
    assert [path.name for path in Path("work").iterdir()] == [other.work.name]


def test_a_run_that_was_made_again_is_not(params):
    job = job_of(params)
    publish(job)
    record(**{f"evaluate@{KEY}": ([SUMS], [])})
    shutil.rmtree(job.work)
    publish(job, wall_s=99)  # the same run, in another time
    clear_recorded(params)
    assert (job.work / PUBLISHED).is_dir()


def test_what_is_half_removed_is_removed_at_last(params):
    removed = Path("work/.removed-smoke-x")
    removed.mkdir(parents=True)
    (removed / "weights").touch()
    clear_recorded(params)
    assert not removed.exists()


def test_the_warm_start_stays_until_it_is_recorded_as_it_is(params):
    phase = Path("work/smoke-pretrain-R50-1-0123456789ab")
    deepened = Path("work/smoke-R101-deepened.pth")
    phase.mkdir(parents=True)
    deepened.touch()
    names = ("smoke-pretrain-mine", "other-pretrain-R50-1-0123456789ab")
    foreign = [Path("work", name) for name in names]
    for path in foreign:
        path.mkdir()
    plan = Path("runs/smoke/plan/pretrain.yaml")
    outs = [{"path": "runs/smoke/pretrain", "md5": "0.dir"}]
    record(pretrain=([plan], outs))
    clear_recorded(params)
    assert phase.exists(), "nothing is published"
    Path("runs/smoke/pretrain/weights").mkdir(parents=True)
    text = plan.read_text()
    plan.write_text(text + "\n")
    clear_recorded(params)
    assert phase.exists(), "it was made from something else"
    plan.write_text(text)
    record(pretrain=([plan], [{"path": "runs/miniature/pretrain", "md5": "0.dir"}]))
    clear_recorded(params)
    assert phase.exists(), "of another scale"
    record(pretrain=([plan], outs))
    clear_recorded(params)
    assert not phase.exists() and not deepened.exists()
    assert all(path.is_dir() for path in foreign)


HOSTILE = ["/", "..", "../..", "", ".", "../victim", "a/../../victim", "a/b", "x\0y"]
HOSTILE += [None, 7, ["a"], {}]


@pytest.mark.parametrize("name", [*HOSTILE, "ABSOLUTE"])
def test_no_name_from_a_result_is_ever_a_path(params, name):
    """Seen: `provenance.json: work` named a folder that `evaluate` then deleted."""
    job, victim = job_of(params), Path.cwd().parent / "victim"
    victim.mkdir()
    (victim / "precious").touch()
    Path("work/smoke-someone-else").mkdir(parents=True)
    publish(job, work=str(victim) if name == "ABSOLUTE" else name)
    before = sorted(p for p in Path.cwd().parent.rglob("*") if p.name != "dvc.lock")
    assert not job.is_published()
    assert run_progress(run_of(params), params).state == "trained ahead"
    assert work_of(KEY, Paths("smoke")) == job.work  # by its content
    assert evaluate.detected_ahead(KEY, Paths("smoke")) is None
    clear_recorded(params)
    assert sorted(p for p in Path.cwd().parent.rglob("*")) == before
    record(**{f"evaluate@{KEY}": ([SUMS], [])})
    clear_recorded(params)
    ours = job.work.absolute()
    assert {p for p in before if not p.exists()} == {
        p for p in before if p == ours or ours in p.parents
    }


@pytest.mark.parametrize("content", ["", "[]", "3", '"x"', "{", "null", '{"work": 1}'])
def test_a_broken_provenance_is_no_published_run(params, content):
    job = job_of(params)
    job.out.mkdir(parents=True)
    (job.out / "provenance.json").write_text(content)
    assert not job.is_published()


@pytest.mark.parametrize("name", ["../../victim", "/etc", "", None])
def test_dvc_lock_names_no_file_outside_the_cache(params, name):
    job = job_of(params)
    outs = [{"path": str(job.out / "provenance.json"), "md5": name}]
    stage = {"cmd": f"python -m pipeline.train {KEY}", "deps": [], "outs": outs}
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {f"train@{KEY}": stage}}))
    with pytest.raises(UserError, match="is no checksum"):
        DvcCache(Path("cache")).has_run(job)


def test_only_empty_folders_leave_the_run_cache(tmp_path):
    whole, empty = (tmp_path / "runs/ab" / name for name in ("ab1", "ab2"))
    for folder in (whole, empty):
        folder.mkdir(parents=True)
    (whole / "entry").write_text("cmd: x")
    mend_run_cache(tmp_path)
    assert (whole / "entry").is_file() and not empty.exists()
    mend_run_cache(tmp_path / "nowhere")


def test_links_in_work_are_not_followed(params):
    job = job_of(params)
    publish(job)
    elsewhere = Path.cwd().parent / "elsewhere"
    shutil.move(job.work, elsewhere)
    job.work.symlink_to(elsewhere)
    record(**{f"evaluate@{KEY}": ([SUMS], [])})
    clear_recorded(params)
    assert (elsewhere / PUBLISHED / "provenance.json").is_file()


def test_needs_no_torch():
    code = "import sys, json, study.runs.recorded; print(json.dumps('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False
