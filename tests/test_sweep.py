"""Side-by-side training: who gets which cores or GPUs, the order, and what happens on failure."""

import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from opmask.errors import UserError
from opmask.training import hardware
from opmask.training.hardware import KEEP_MEMORY, places
from study.runs import sweep
from study.runs.sweep import Training, train_side_by_side

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


def script(monkeypatch, folder: Path, code: str) -> str:
    """A module to run instead of a training, with the key as `sys.argv[1]`."""
    name = f"training_{uuid.uuid4().hex}"
    folder.joinpath(f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sweep, "PRELOADED", [])
    return name


def test_longest_first_and_no_more_at_once_than_places(monkeypatch, tmp_path):
    code = """
import os, sys, time
start = time.time(); time.sleep(.5); print(sys.argv[1], os.environ["P"], start, time.time())
"""
    module = script(monkeypatch, tmp_path, code)
    parts = [Training("abcde"[i], length, tmp_path) for i, length in enumerate([1, 5, 3, 4, 2])]
    train_side_by_side(parts, [{"P": "x"}, {"P": "y"}], tmp_path / "logs", module)
    done = [(tmp_path / "logs" / f"{key}.log").read_text().split() for key in "abcde"]
    spans = sorted((float(start), float(end), key) for key, _, start, end in done)
    assert {key for *_, key in spans[:2]} == {"b", "d"}
    assert spans[-1][2] == "a"
    for start, _, _ in spans:
        assert sum(s <= start < e for s, e, _ in spans) <= 2
    assert {place for _, place, _, _ in done} == {"x", "y"}


def test_one_failure_stops_the_others_gently(monkeypatch, tmp_path):
    """The others get the chance to save: SIGINT, and time to react to it."""
    code = """
import sys, time, pathlib, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
if sys.argv[1] == "bad":
    while not pathlib.Path("ready").exists(): time.sleep(.05)
    sys.exit("error: params.yaml: config: no such key")
try:
    pathlib.Path("ready").touch(); time.sleep(60)
except KeyboardInterrupt:
    time.sleep(.5); print("saved")
"""
    monkeypatch.chdir(tmp_path)
    module = script(monkeypatch, tmp_path, code)
    started = time.monotonic()
    parts = [Training("bad", 1, tmp_path / "bad"), Training("good", 2, tmp_path / "good")]
    with pytest.raises(UserError, match=r"bad: params.yaml: config: no such key \(log: .*bad.log"):
        train_side_by_side(parts, [{}, {}], tmp_path / "logs", module)
    assert (tmp_path / "logs" / "good.log").read_text() == "saved\n"
    assert time.monotonic() - started < 55


@pytest.mark.slow
def test_a_run_has_its_place_in_the_environment_and_the_imports_at_hand(monkeypatch, tmp_path):
    """What a library reads at its start, as glibc does, must be there when the process starts."""
    code = """
import os, sys
print(sys.argv[1:], "detectron2" in sys.modules, os.environ["OWN"])
start = open("/proc/self/environ").read().split("\\0")
print("SHARED=1" in start, any(line.startswith("OWN=") for line in start))
"""
    server = multiprocessing.forkserver._forkserver
    server._stop()  # whatever other tests have started
    module = script(monkeypatch, tmp_path, code)
    monkeypatch.setattr(sweep, "PRELOADED", ["detectron2"])
    places = [{"SHARED": "1", "OWN": "x"}, {"SHARED": "1", "OWN": "y"}]
    before = dict(os.environ)
    parts = [Training("a", 2, tmp_path), Training("b", 1, tmp_path)]
    try:
        train_side_by_side(parts, places, tmp_path / "logs", module)
    finally:
        server._stop()
    logs = [(tmp_path / "logs" / f"{key}.log").read_text().splitlines() for key in "ab"]
    preloaded = sys.platform == "linux"
    assert {log[0] for log in logs} == {
        f"['a', '--work', '{tmp_path.name}'] {preloaded} y",
        f"['b', '--work', '{tmp_path.name}'] {preloaded} x",
    }
    assert not preloaded or {log[1] for log in logs} == {"True False"}
    assert dict(os.environ) == before


LINGERING = """
import pathlib, sys, time
try:
    pathlib.Path(sys.argv[1] + ".ready").touch(); time.sleep(600)
except KeyboardInterrupt:
    time.sleep(.5); print("saved")
"""
PARENT = """
from pathlib import Path
from opmask.errors import main
from study.runs import sweep

@main
def run(argv):
    sweep.PRELOADED = []
    parts = [sweep.Training(key, 1, Path(key)) for key in "ab"]
    sweep.train_side_by_side(parts, [{}, {}], Path("logs"), "lingering")

if __name__ == "__main__":
    run()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_stopped_or_killed_lets_its_runs_save(number, tmp_path):
    (tmp_path / "lingering.py").write_text(LINGERING)
    (tmp_path / "parent.py").write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    # in the background, as in a shell script: SIGINT is ignored until somebody asks for it
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    with subprocess.Popen(
        [sys.executable, "parent.py"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE,
        text=True, **(ignore if number != signal.SIGINT else {}),
    ) as process:  # fmt: skip
        while not all((tmp_path / f"{key}.ready").exists() for key in "ab"):
            assert process.poll() is None
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        process.wait(60)
        assert not psutil.wait_procs(children, timeout=60)[1]
        said = process.stderr.read()
    codes = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}
    assert process.returncode == codes[number]
    assert ("terminated" in said) == (number == signal.SIGTERM)
    assert [(tmp_path / "logs" / f"{key}.log").read_text() for key in "ab"] == ["saved\n"] * 2


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, "bad: killed by SIGKILL, as the system does when memory runs out"),
        (signal.SIGSEGV, "bad: killed by SIGSEGV"),
    ],
)
def test_a_run_that_was_killed_is_reported_as_killed(number, message, monkeypatch, tmp_path):
    code = f"""
import os, sys
print("bad:  31%|###1      | 233/760 [00:51<01:53]", end="\\r", flush=True)
os.kill(os.getpid(), {int(number)})
"""
    module = script(monkeypatch, tmp_path, code)
    with pytest.raises(UserError) as error:
        train_side_by_side([Training("bad", 1, tmp_path)], [{}], tmp_path / "logs", module)
    assert str(error.value).startswith(message) and "bad.log)" in str(error.value)
    assert "%" not in str(error.value)
