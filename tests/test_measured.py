"""Results of single runs are measured once for as long as nothing that determines them changes."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from opmask.errors import UserError
from pipeline.evaluate import in_short
from study.runs import folders, measured
from study.runs.measured import Measurement, collect
from study.runs.store import Store

MODULE = "pipeline.cam"
HARDWARE = {"gpus": 0, "machines": 1, "side_by_side": 2}


@pytest.fixture(autouse=True)
def nothing_preloaded(monkeypatch):
    monkeypatch.setattr(measured, "PRELOADED", [])


@pytest.fixture
def stage(tmp_path):
    """`run(a=…, b=…)`: a stage over these runs, each with settings; returns what was measured."""
    (tmp_path / "weights").write_text("1")

    def run(**settings):
        done = []

        def part(key, value):
            def measure(folder):
                assert not list(folder.iterdir())
                done.append(key)
                if value == "broken":
                    raise RuntimeError(key)
                (folder / "result").write_text(str(value))

            return Measurement(key, [MODULE], value, [tmp_path / "weights"], measure)

        try:
            parts = [part(key, value) for key, value in settings.items()]
            collect(parts, tmp_path / "out", Store(tmp_path / "cache"))
        except RuntimeError:
            pass
        return done

    run.root = tmp_path
    return run


def results(stage):
    out = stage.root / "out"
    keys = json.loads((out / "runs.json").read_text())
    assert {path.name for path in out.iterdir()} == {*keys, "runs.json", "SHA256SUMS"}
    return {key: (out / key / "result").read_text() for key in keys}


def test_only_what_changed_is_measured(stage):
    assert stage(a=1, b=2) == ["a", "b"] and results(stage) == {"a": "1", "b": "2"}
    assert stage(a=1, b=3) == ["b"] and results(stage) == {"a": "1", "b": "3"}
    (stage.root / "weights").write_text("2")
    assert stage(a=1, b=3) == ["a", "b"]


def test_other_code_measures_anew(stage, monkeypatch):
    stage(a=1)
    monkeypatch.setattr(folders, "code_of", lambda *modules: f"{modules}, edited")
    assert stage(a=1) == ["a"] and stage(a=1) == []


def test_a_run_more_or_less(stage):
    stage(a=1)
    assert stage(a=1, b=2) == ["b"] and list(results(stage)) == ["a", "b"]
    assert stage(b=2) == [] and list(results(stage)) == ["b"]
    assert stage(a=1, b=2) == []  # what a narrower choice of runs left out is still there


def test_an_interrupted_stage_goes_on_and_leaves_the_old_output(stage):
    stage(a=1, b=2)
    assert stage(a=5, b="broken") == ["a", "b"]
    assert results(stage) == {"a": "1", "b": "2"}
    assert stage(a=5, b=7) == ["b"] and results(stage) == {"a": "5", "b": "7"}


def test_one_result_a_run_is_kept(stage):
    for value in (1, 2, 3):
        stage(a=value, longer_a=value)
    assert len(list((stage.root / "cache").iterdir())) == 2


def test_no_run_at_all_is_no_empty_folder(stage):
    assert stage() == [] and results(stage) == {}
    assert (stage.root / "out" / "runs.json").stat().st_size


def test_a_missing_file_is_an_error(stage):
    (stage.root / "weights").unlink()
    with pytest.raises(UserError, match="weights: no such file"):
        stage(a=1)


def write_environment(key, folder):
    (folder / "result").write_text(f"{key} {os.getpid()} {os.environ['OMP_NUM_THREADS']}")


@pytest.mark.slow
def test_several_are_measured_in_processes_of_their_own(tmp_path):
    weights = tmp_path / "weights"
    weights.touch()
    parts = [
        Measurement(key, [MODULE], 1, [weights], partial(write_environment, key)) for key in "abc"
    ]
    collect(parts, tmp_path / "out", Store(tmp_path / "cache"), HARDWARE)
    found = [(tmp_path / "out" / key / "result").read_text().split() for key in "abc"]
    assert [key for key, _, _ in found] == ["a", "b", "c"]
    assert str(os.getpid()) not in {process for _, process, _ in found}
    assert {int(threads) for _, _, threads in found} == {
        max(1, len(psutil.Process().cpu_affinity()) // 2)
    }


def fail(folder):
    raise UserError(f"{folder.name}: broken")


@pytest.mark.slow
def test_what_breaks_in_another_process_is_reported(tmp_path):
    weights = tmp_path / "weights"
    weights.touch()
    parts = [Measurement(key, [MODULE], 1, [weights], fail) for key in "ab"]
    with pytest.raises(UserError, match="partial: broken"):
        collect(parts, tmp_path / "out", Store(tmp_path / "cache"), HARDWARE)
    assert not (tmp_path / "out").exists()


def linger(folder):
    (folder.parent / "begun").touch()
    time.sleep(600)


def collect_lingering(root):
    measured.PRELOADED = []
    weights = root / "weights"
    weights.touch()
    parts = [Measurement(key, [MODULE], 1, [weights], linger) for key in "ab"]
    collect(parts, root / "out", Store(root / "cache"), HARDWARE)


@pytest.mark.slow
def test_ctrl_c_ends_all_processes(tmp_path):
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=collect_lingering, args=(tmp_path,))
    process.start()
    while not (tmp_path / "cache" / "begun").exists():
        assert process.is_alive()
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 1
    assert not psutil.wait_procs(children, timeout=60)[1]


def be_killed(folder):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_process_is_reported_as_killed(tmp_path):
    weights = tmp_path / "weights"
    weights.touch()
    parts = [
        Measurement(key, [MODULE], 1, [weights], be_killed if key == "a" else linger)
        for key in "ab"
    ]
    with pytest.raises(
        UserError, match=r"a: killed by SIGKILL, as .* when memory runs out.*cache/logs/a.log"
    ):
        collect(parts, tmp_path / "out", Store(tmp_path / "cache"), HARDWARE)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_a_stage_that_is_terminated_or_killed(number, tmp_path):
    code = f"""
import sys; sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parent)]!r}
from pathlib import Path
from opmask.errors import main
from test_measured import collect_lingering
if __name__ == "__main__":
    main(lambda argv: collect_lingering(Path({str(tmp_path)!r})))([])
"""
    (tmp_path / "stage.py").write_text(code)
    with subprocess.Popen([sys.executable, "-W", "ignore", tmp_path / "stage.py"]) as process:
        while not (tmp_path / "cache" / "begun").exists():
            assert process.poll() is None
            time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        assert process.wait(60) == (143 if number == signal.SIGTERM else -9)
    assert not psutil.wait_procs(children, timeout=60)[1]


@pytest.mark.parametrize("damage", [b"", b"2", b"1 "])
def test_a_damaged_part_is_measured_again(damage, stage):
    stage(a=1, b=2)
    (cached,) = (stage.root / "cache").glob("a-*")
    (cached / "result").write_bytes(damage)
    with pytest.warns(UserWarning, match=r"a-\w+/result: damaged"):
        assert stage(a=1, b=2) == ["a"]
    assert results(stage) == {"a": "1", "b": "2"}


def test_code_that_was_edited_meanwhile_is_refused(stage, monkeypatch):
    """Else what is measured by it would be kept under the name of the code before."""
    codes = iter(["before", "after"])
    monkeypatch.setattr(folders, "code_of", lambda *modules: next(codes))
    with pytest.raises(UserError, match="changed meanwhile: repeat dvc repro"):
        stage(a=1)
    assert not list(stage.root.glob("cache/a*"))


def test_an_evaluation_is_said_in_a_line():
    novel = {"mask_AP": 10.38, "box_AP50": 33.06, "box_AP": 20.0}
    found = {"all": {"mask_AP": 1.0, "box_AP50": 2.0}, "novel": novel}
    assert in_short("x-0", found) == "x-0: novel classes: mask AP 10.4, box AP50 33.1"
    boxes = {"all": {"box_AP50": 2.0}, "supervised": {"box_AP50": 2.0}}
    assert in_short("x-0", boxes) == "x-0: all classes: box AP50 2.0"
