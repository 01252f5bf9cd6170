"""Several processes that train one run: what they compute, and how they end.

They are forked from the tests, so that they start at once and have the tests' patches; but for one
test, which starts them as users do.
"""

import json
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as dist
from detectron2.engine import HookBase
from detectron2.utils import comm
from filelock import FileLock, Timeout
from tiny import tiny_cfg, write_images
from torch import nn

from opmask.errors import Terminated, UserError
from opmask.model.roi_heads import OPMaskROIHeads
from opmask.training import launch, trainer
from opmask.training.hooks import SafeCheckpointer
from opmask.training.norms import synchronise_norms
from opmask.training.trainer import Hardware

FORK = multiprocessing.get_context("fork")
TWO = Hardware(processes=2)
LENGTH = 6  # iterations, a checkpoint every second


@pytest.fixture(autouse=True)
def _forked(monkeypatch):
    monkeypatch.setattr(launch, "CONTEXT", FORK)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    yield
    torch.set_num_threads(threads)
    assert not multiprocessing.active_children()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """Of two processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "CONTEXT", FORK)
        return train(data, tmp_path_factory.mktemp("whole"))


def train(data, work: Path, hardware: Hardware = TWO, cfg=None) -> dict[str, torch.Tensor]:
    cfg = cfg or tiny_cfg(LENGTH)
    final = trainer.train(cfg, data, work, hardware, description="test")
    return torch.load(final, weights_only=True)["model"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def before_step(monkeypatch, act: Callable[[int, int], None]) -> None:
    """Call `act(rank, iteration)` before each step."""
    original = trainer.SeedEveryIteration.before_step

    def wrapped(hook):
        act(comm.get_rank(), hook.trainer.iter)
        original(hook)

    monkeypatch.setattr(trainer.SeedEveryIteration, "before_step", wrapped)


class KeepWeights(HookBase):
    """Leaves what every process ends with."""

    def __init__(self, folder: Path):
        self.folder = folder

    def after_train(self) -> None:
        model = getattr(self.trainer.model, "module", self.trainer.model)
        torch.save(model.state_dict(), self.folder / f"rank{comm.get_rank()}.pth")


def keep_weights(monkeypatch, folder: Path) -> None:
    hooks = trainer._hooks
    monkeypatch.setattr(trainer, "_hooks", lambda *args: [*hooks(*args), KeepWeights(folder)])


def kept(folder: Path) -> list[dict[str, torch.Tensor]]:
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("rank*.pth"))]


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_all_processes_end_with_the_same_weights(processes, data, tmp_path, monkeypatch):
    keep_weights(monkeypatch, tmp_path)
    cfg = tiny_cfg(4, SOLVER__IMS_PER_BATCH=4)
    final = train(data, tmp_path / "work", Hardware(processes=processes), cfg)
    weights = kept(tmp_path)
    assert len(weights) == processes
    assert all(same(one, final) for one in weights)
    start = torch.load(tmp_path / "work/model_0000001.pth", weights_only=True)["model"]
    assert not same(start, final)
    assert all(value.isfinite().all() for value in final.values() if value.is_floating_point())


# As many RoIs an image as there are proposals, and all anchors: nothing is drawn at random.
EVERYTHING = {
    "INPUT__MIN_SIZE_TRAIN": [64],
    "MODEL__RPN__BATCH_SIZE_PER_IMAGE": 4096,
    "MODEL__ROI_HEADS__BATCH_SIZE_PER_IMAGE": 64,
    "MODEL__ROI_HEADS__POSITIVE_FRACTION": 1.0,
    "SOLVER__IMS_PER_BATCH": 4,
    "SOLVER__BASE_LR": 0.01,
}


@pytest.mark.slow
@pytest.mark.parametrize("masks", [True, False])
def test_several_processes_train_as_one_on_the_same_batch(masks, tmp_path, monkeypatch):
    """Where sampling and padding do not differ; sums have another order."""
    data = square_images(tmp_path)
    cfg = tiny_cfg(4, **EVERYTHING, MODEL__MASK_ON=masks)
    one = train(data, tmp_path / "one", Hardware(), cfg)
    for processes in (2, 4):
        several = train(data, tmp_path / str(processes), Hardware(processes=processes), cfg)
        for name, value in one.items():
            torch.testing.assert_close(several[name], value, rtol=1e-3, atol=1e-5, msg=name)


def square_images(folder: Path):
    data = write_images(folder / "images", 16)
    content = json.loads(data.annotations.read_text())
    images = [image for image in content["images"] if image["height"] == image["width"]]
    ids = {image["id"] for image in images}
    annotations = [a for a in content["annotations"] if a["image_id"] in ids]
    data.annotations.write_text(
        json.dumps({**content, "images": images, "annotations": annotations})
    )
    return data


@pytest.mark.slow
def test_a_process_without_supervised_rois(data, tmp_path, monkeypatch):
    keep_weights(monkeypatch, tmp_path)
    has_mask = OPMaskROIHeads._has_mask

    def none_on_one(heads, image):
        return has_mask(heads, image) & (comm.get_rank() == 0)

    monkeypatch.setattr(OPMaskROIHeads, "_has_mask", none_on_one)
    final = train(data, tmp_path / "work")
    assert all(same(one, final) for one in kept(tmp_path))
    name = "roi_heads.mask_head.predictor.bias"
    assert final[name].abs().sum() > 0  # begins at 0: it has learned from the other's


def normalise(out: Path, sizes: tuple[int, ...]) -> None:
    """One step of a normalisation, of `sizes[rank]` RoIs of one batch."""
    torch.manual_seed(0)
    x = torch.randn(sum(sizes), 3, 4, 4) + torch.arange(3.0)[:, None, None]
    target = torch.randn_like(x)
    rank, world = comm.get_rank(), comm.get_world_size()
    if world > 1:
        x, target = (whole.split(sizes)[rank] for whole in (x, target))
    model = nn.Sequential(nn.BatchNorm2d(3), nn.SyncBatchNorm(3))
    synchronise_norms(model)
    x.requires_grad_()
    y = model(x)
    (y * target).sum().backward()
    for parameter in model.parameters():
        if world > 1:
            dist.all_reduce(parameter.grad)
    gradients = [p.grad for p in model.parameters()]
    found = {"y": y.detach(), "x": x.grad, "state": model.state_dict(), "gradients": gradients}
    torch.save(found, out / f"{world}-{rank}.pth")


def test_statistics_are_of_the_whole_batch(tmp_path):
    normalise(tmp_path, (5, 0, 2))
    launch.launch(normalise, (tmp_path, (5, 0, 2)), Hardware(processes=3))
    one, *parts = (torch.load(path) for path in sorted(tmp_path.glob("*.pth")))
    assert len(parts) == 3
    for key in ("y", "x"):
        torch.testing.assert_close(torch.cat([part[key] for part in parts]), one[key])
    for part in parts:
        torch.testing.assert_close(part["state"], one["state"])
        torch.testing.assert_close(part["gradients"], one["gradients"])


@pytest.mark.slow
@pytest.mark.parametrize("killed", [{1}, {0}, {0, 1}])
def test_killed_processes_end_all_and_resuming_changes_nothing(
    killed, data, tmp_path, monkeypatch, uninterrupted
):
    def kill(rank, iteration):
        if iteration == 3 and rank in killed:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        before_step(patch, kill)
        who = "".join(map(str, killed))
        with pytest.raises(UserError, match=rf"process [{who}] of .* ended by SIGKILL, .*resume"):
            train(data, tmp_path)
    assert {path.name for path in tmp_path.glob("*.pth")} == {"model_0000001.pth"}
    assert same(train(data, tmp_path), uninterrupted)


def test_who_ends_unseen_is_heard():
    """All at once, between two looks of the launcher."""
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=lambda: os.kill(os.getpid(), signal.SIGKILL))
    process.start()
    theirs.close()
    process.join()
    rank = launch._Rank(0, process, ours)
    launch._watch([rank], [])
    assert "ended by SIGKILL" in str(rank.failure)


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_for_the_user_is_that_of_the_process(rank, data, tmp_path, monkeypatch):
    """At once, while the other waits for it."""

    def fail(here, iteration):
        if iteration == 1 and here == rank:
            raise UserError("images/1.png: cannot use this image")

    before_step(monkeypatch, fail)
    with pytest.raises(UserError, match=r"^images/1.png: cannot use this image$"):
        train(data, tmp_path)


def test_a_bug_is_reported_with_its_traceback(data, tmp_path, monkeypatch):
    def fail(rank, iteration):
        if rank == 1:
            raise ZeroDivisionError("by what?")

    before_step(monkeypatch, fail)
    with pytest.raises(RuntimeError, match=r"(?s)process 1 .*Traceback.*ZeroDivisionError: by wh"):
        train(data, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_one_process_stops_all_at_the_same_iteration(
    number, data, tmp_path, monkeypatch, uninterrupted
):
    def stop(rank, iteration):
        (tmp_path / f"{rank}-{iteration}").touch()
        if iteration == 2 and rank == 1:
            os.kill(os.getpid(), number)

    work = tmp_path / "work"
    with monkeypatch.context() as patch:
        before_step(patch, stop)
        with pytest.raises(KeyboardInterrupt) as stopped:
            train(data, work)
    assert isinstance(stopped.value, Terminated) == (number == signal.SIGTERM)
    assert (tmp_path / "1-2").exists() and not list(tmp_path.glob("?-3"))
    assert (work / "last_checkpoint").read_text() == "model_0000002.pth"
    assert same(train(data, work), uninterrupted)


def in_background(data, work: Path, hardware: Hardware = TWO) -> multiprocessing.Process:
    def call() -> None:
        try:
            train(data, work, hardware)
        except KeyboardInterrupt:
            sys.exit(130)

    process = FORK.Process(target=call)
    process.start()
    return process


def wait_for(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300  # of a machine that hangs
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_locked(work: Path) -> bool:
    try:
        with FileLock(work / "lock0").acquire(timeout=0):
            return False
    except Timeout:
        return True


@pytest.mark.slow
def test_ctrl_c_reaches_the_processes_and_the_lock_is_held_until_they_are_gone(
    data, tmp_path, monkeypatch, uninterrupted
):
    work, save = tmp_path / "work", SafeCheckpointer.save

    def slow(*args, **kwargs):
        if (work / "last_checkpoint").exists() and comm.get_rank() == 0:
            (tmp_path / "saving").touch()
            wait_for(lambda: (tmp_path / "seen").exists())
        save(*args, **kwargs)

    def pause(rank, iteration):
        if iteration == 3:  # after the first checkpoint
            (tmp_path / f"ready{rank}").touch()
            wait_for(lambda: (tmp_path / "sent").exists())

    with monkeypatch.context() as patch:
        patch.setattr(SafeCheckpointer, "save", slow)
        before_step(patch, pause)
        launcher = in_background(data, work)
    try:
        wait_for(lambda: len(list(tmp_path.glob("ready?"))) == 2)
        os.kill(launcher.pid, signal.SIGINT)
        time.sleep(0.5)  # passed on, while they wait
        (tmp_path / "sent").touch()
        wait_for(lambda: (tmp_path / "saving").exists())
        assert launcher.is_alive() and is_locked(work)
        (tmp_path / "seen").touch()
        launcher.join(300)
    finally:
        launcher.kill()
    assert launcher.exitcode == 130
    assert not is_locked(work)
    assert (work / "last_checkpoint").read_text() == "model_0000003.pth"
    assert same(train(data, work), uninterrupted)


def test_ctrl_c_before_training_ends_at_once(data, tmp_path, monkeypatch):
    """One reads annotations, the other waits for it in a call that no signal interrupts."""

    def read(*_args):
        if comm.get_rank() == 0:
            (tmp_path / "reading").touch()
            time.sleep(300)
        comm.synchronize()

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "load_training_dicts", read)
        launcher = in_background(data, tmp_path / "work")
    wait_for(lambda: (tmp_path / "reading").exists())
    os.kill(launcher.pid, signal.SIGINT)
    launcher.join(100)
    assert launcher.exitcode == 130


@pytest.mark.slow
def test_processes_end_with_their_launcher(data, tmp_path, monkeypatch, uninterrupted):
    work = tmp_path / "work"

    def pause(_rank, iteration):
        if iteration == 3:
            (tmp_path / str(os.getpid())).touch()
            time.sleep(300)

    with monkeypatch.context() as patch:
        before_step(patch, pause)
        launcher = in_background(data, work)
    wait_for(lambda: len([path for path in tmp_path.iterdir() if path.name.isdigit()]) == 2)
    ranks = [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]
    launcher.kill()
    launcher.join()
    wait_for(lambda: not any(_runs(pid) for pid in ranks))
    assert same(train(data, work), uninterrupted)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_two_machines_resume_together(shared, data, tmp_path, monkeypatch, uninterrupted):
    """With a folder of their own, the second has no checkpoint, and needs none."""
    works = [tmp_path / "first", tmp_path / ("first" if shared else "second")]

    def machines() -> list[Hardware]:
        first = Hardware(machines=2, dist_url=address())
        return [first, replace(first, machine_rank=1)]

    def kill(rank, iteration):
        if iteration == 3 and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    first, second = machines()
    with monkeypatch.context() as patch:
        before_step(patch, kill)
        other = in_background(data, works[1], second)
        with pytest.raises(UserError, match="process 0 of the training lost the others .*says why"):
            train(data, works[0], first)
        other.join()
    assert other.exitcode == 1  # by its UserError
    first, second = machines()
    other = FORK.Process(
        target=partial(trainer.train, tiny_cfg(LENGTH), data, works[1], second, description="other")
    )
    other.start()
    assert same(train(data, works[0], first), uninterrupted)
    other.join()
    assert other.exitcode == 0
    assert shared or not list(works[1].glob("*.pth"))


def test_unusable_addresses(data, tmp_path):
    for url, reason in (
        ("auto", "auto cannot be used .there are 2 machines.*tcp://HOST:PORT"),
        ("tcp://127.0.0.1", "tcp://127.0.0.1 cannot be used .no host and port"),
    ):
        with pytest.raises(UserError, match=f"hardware.dist_url: {reason}"):
            train(data, tmp_path, Hardware(machines=2, dist_url=url))
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match="cannot be used .*a free port"):
            train(data, tmp_path, replace(TWO, dist_url=url))


@pytest.mark.slow
def test_as_users_start_them(data, tmp_path, uninterrupted):
    """Newly started processes, not copies of this one."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, pickle, pathlib, opmask\n"
        "from opmask.training import trainer\n"
        "if __name__ == '__main__':\n"
        "    trainer.train(*pickle.load(open(sys.argv[1], 'rb')), description='test')\n"
    )
    job = tmp_path / "job.pkl"
    job.write_bytes(pickle.dumps((tiny_cfg(LENGTH), data, tmp_path / "work", TWO)))
    done = subprocess.run(
        [sys.executable, str(script), str(job)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning: Typed" not in done.stderr and "Grad strides" not in done.stderr
    found = torch.load(tmp_path / "work/model_final.pth", weights_only=True)["model"]
    assert same(found, uninterrupted)
