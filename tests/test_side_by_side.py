"""Side-by-side training: who gets which cores or GPUs, the order, and what happens on failure."""

import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from opmask.errors import UserError
from opmask.training import hardware
from opmask.training.hardware import KEEP_MEMORY, places
from opmask.training.trunk import Trunk
from study.runs import side_by_side, train_all
from study.runs.work import Planned

CPU = {"gpus": "auto", "machines": 1, "side_by_side": "auto"}


@pytest.fixture
def machine(monkeypatch):
    """A machine with 4 cores and memory for 3 runs."""
    monkeypatch.setattr(sys, "platform", "other")
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: 4)
    memory = type("", (), {"available": 3 * hardware.MEMORY_A_RUN + 1})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


def test_cores_are_shared_as_far_as_memory_goes(machine):
    one, two = ({"OMP_NUM_THREADS": threads, **KEEP_MEMORY} for threads in "12")
    assert places(CPU, 0) == [one] * 3
    assert places({**CPU, "side_by_side": 2}, 0) == [two] * 2
    assert places({**CPU, "gpus": 0}, 8) == [one] * 3
    assert len(places({**CPU, "machines": 2}, 0)) == 1


def test_gpus_are_shared_only_when_asked(machine):
    assert len(places(CPU, 8)) == 1
    shared = places({**CPU, "side_by_side": 2}, 4)
    assert [place["CUDA_VISIBLE_DEVICES"] for place in shared] == ["0,1", "2,3"]
    shared = places({**CPU, "side_by_side": 2, "gpus": 1}, 4)
    assert [place["CUDA_VISIBLE_DEVICES"] for place in shared] == ["0", "1"]


def test_few_planned_runs_have_more_cores_each_and_never_as_many_are_left(monkeypatch):
    def here(hardware):
        count = 4 if hardware["side_by_side"] == "auto" else hardware["side_by_side"]
        return [{"OMP_NUM_THREADS": str(8 // count)}] * count

    monkeypatch.setattr(side_by_side, "places_here", here)
    assert side_by_side.places_for(24, CPU) == [{"OMP_NUM_THREADS": "2"}] * 4
    assert side_by_side.places_for(2, CPU) == [{"OMP_NUM_THREADS": "4"}] * 2
    assert side_by_side.places_for(0, CPU) == [{"OMP_NUM_THREADS": "8"}]
    asked = {**CPU, "side_by_side": 4}
    assert len(side_by_side.places_for(1, asked)) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side_by_side": 3, "gpus": 2}, "3 runs with 2 GPUs each need more than the 4"),
        ({"side_by_side": 5}, "5 runs with 1 GPUs each need more than the 4"),
    ],
)
def test_impossible_wishes_are_refused(machine, change, message):
    with pytest.raises(UserError, match=message):
        places({**CPU, **change}, 4)


@pytest.fixture(autouse=True)
def nothing_preloaded(monkeypatch):
    monkeypatch.setattr(train_all, "PRELOADED", [])


def job(key: str, iterations: int, folder: Path) -> Planned:
    return Planned(key, {"max_iter": iterations}, None, "", folder / f"smoke-{key}-0", folder)


def log_times(key, _work):
    start = time.time()
    time.sleep(0.5)
    print(key, os.environ["P"], start, time.time())


@pytest.mark.slow
def test_longest_first_and_no_more_at_once_than_places(tmp_path, capsys):
    jobs = [job("abcde"[i], length, tmp_path) for i, length in enumerate([1, 5, 3, 4, 2])]
    train_all.train_all(jobs, [{"P": "x"}, {"P": "y"}], tmp_path / "logs", log_times)
    done = [(tmp_path / "logs" / f"{key}.log").read_text().split() for key in "abcde"]
    spans = sorted((float(start), float(end), key) for key, _, start, end in done)
    assert {key for *_, key in spans[:2]} == {"b", "d"}
    assert spans[-1][2] == "a"
    for start, _, _ in spans:
        assert sum(s <= start < e for s, e, _ in spans) <= 2
    assert {place for _, place, _, _ in done} == {"x", "y"}
    lines = capsys.readouterr().out.splitlines()  # one a finished run
    assert sorted(line.split(":")[0] for line in lines) == list("abcde")
    assert lines[-1].startswith("a: trained, 1 iterations; 5 of 5 runs after ")


def test_some_come_before_longer_ones(tmp_path):
    jobs, order = [job("abc"[i], length, tmp_path) for i, length in enumerate([1, 5, 3])], []

    def run(tasks, **_watched):
        order.extend(task.name for task in tasks)

    train_all.follow(jobs, log_times, run, first={"a", "elsewhere"})
    assert order == ["a", "b", "c"]


def fail_once_another_is_ready(key, _work):
    ready = Path("ready")
    if key == "bad":
        while not ready.exists():
            time.sleep(0.05)
        raise UserError("params.yaml: config: no such key")
    try:
        ready.touch()
        time.sleep(600)
    except KeyboardInterrupt:
        time.sleep(0.5)
        print("saved")


def test_one_failure_stops_the_others_gently(monkeypatch, tmp_path):
    """The others get the chance to save: SIGINT, and time to react to it."""
    monkeypatch.chdir(tmp_path)
    jobs = [job("bad", 1, tmp_path), job("good", 2, tmp_path)]
    with pytest.raises(UserError, match=r"bad: params.yaml: config: no such key \(log: .*bad.log"):
        train_all.train_all(jobs, [{}, {}], tmp_path / "logs", fail_once_another_is_ready)
    assert (tmp_path / "logs" / "good.log").read_text() == "saved\n"


def describe_process(key, work):
    print(key, work, "detectron2" in sys.modules, os.environ["OWN"])
    start = Path("/proc/self/environ").read_text().split("\0")
    print("SHARED=1" in start, any(line.startswith("OWN=") for line in start))


@pytest.mark.slow
def test_a_run_has_its_place_in_the_environment_and_the_imports_at_hand(monkeypatch, tmp_path):
    """What a library reads at its start, as glibc does, must be there when the process starts."""
    server = multiprocessing.forkserver._forkserver
    server._stop()  # whatever other tests have started
    monkeypatch.setattr(train_all, "PRELOADED", ["detectron2"])
    places = [{"SHARED": "1", "OWN": "x"}, {"SHARED": "1", "OWN": "y"}]
    before = dict(os.environ)
    jobs = [job("a", 2, tmp_path), job("b", 1, tmp_path)]
    try:
        train_all.train_all(jobs, places, tmp_path / "logs", describe_process)
    finally:
        server._stop()
    logs = [(tmp_path / "logs" / f"{key}.log").read_text().splitlines() for key in "ab"]
    preloaded = sys.platform == "linux"
    assert {log[0] for log in logs} == {f"a smoke-a-0 {preloaded} y", f"b smoke-b-0 {preloaded} x"}
    assert not preloaded or {log[1] for log in logs} == {"True False"}
    assert dict(os.environ) == before


def test_a_run_waits_until_its_trunk_is_there(tmp_path):
    def branch(key, *points):
        return replace(job(key, 9, tmp_path), trunk=Trunk(tmp_path / key[:5], points))

    long, short, other = branch("trunk-long", 6, 10), branch("trunk-short", 6), branch("alone", 6)
    assert short.waits_for(long) and not other.waits_for(long) and not short.waits_for(other)
    long.trunk.folder.mkdir()
    long.trunk.checkpoint(6).touch()
    assert not short.waits_for(long)


PARENT = """
import sys, time
from pathlib import Path
from opmask.errors import main
from opmask.training.trunk import Trunk
from study.runs import side_by_side, train_all
from study.runs.work import Planned

def linger(key, work):
    try:
        Path(key + ".ready").touch(); time.sleep(600)
    except KeyboardInterrupt:
        time.sleep(.5); print("saved")

@main
def run(argv):
    train_all.PRELOADED = []
    jobs = [Planned(key, {"max_iter": 1}, None, "", Path(key), Path()) for key in "ab"]
    train_all.train_all(jobs, [{}, {}], Path("logs"), linger)

if __name__ == "__main__":
    run()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_training_that_is_stopped_or_killed_lets_its_runs_save(number, tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    # in the background, as in a shell script, SIGINT is ignored until somebody asks for it
    handler = signal.SIG_DFL if number == signal.SIGINT else signal.SIG_IGN
    with subprocess.Popen(
        [sys.executable, "parent.py"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE,
        text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    ) as process:  # fmt: skip
        while not all((tmp_path / f"{key}.ready").exists() for key in "ab"):
            assert process.poll() is None
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        process.wait(300)
        assert not psutil.wait_procs(children, timeout=300)[1]
        said = process.stderr.read()
    codes = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}
    assert process.returncode == codes[number]
    assert ("terminated" in said) == (number == signal.SIGTERM)
    assert [(tmp_path / "logs" / f"{key}.log").read_text() for key in "ab"] == ["saved\n"] * 2


def be_killed(number, _key, _work):
    print("bad:  31%|###1      | 233/760 [00:51<01:53]", end="\r", flush=True)
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, "bad: killed by SIGKILL, as the system does when memory runs out"),
        (signal.SIGSEGV, "bad: killed by SIGSEGV"),
    ],
)
def test_a_run_that_was_killed_is_reported_as_killed(number, message, tmp_path):
    with pytest.raises(UserError) as error:
        train_all.train_all(
            [job("bad", 1, tmp_path)], [{}], tmp_path / "logs", partial(be_killed, int(number))
        )
    assert str(error.value).startswith(message) and "bad.log)" in str(error.value)
    assert "%" not in str(error.value)
