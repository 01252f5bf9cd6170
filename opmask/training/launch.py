"""Several processes, called ranks, that train one run: on GPUs by NCCL, on CPU by gloo.

The launching process is no rank. It passes on Ctrl-C and SIGTERM, ends all ranks as soon as one has
failed, and returns only when all are gone. Ranks end with it, even if it is killed.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from opmask.errors import Terminated, UserError
from opmask.training.hardware import Hardware

# The longest that ranks wait for each other: while one reads annotations or writes a checkpoint,
# and at the start for the other machines.
PATIENCE = timedelta(minutes=10)
GRACE = 1.0  # seconds after one rank failed in which others may yet say why
SIGNALS = (signal.SIGINT, signal.SIGTERM)
CONTEXT: Any = multiprocessing.get_context("spawn")  # as CUDA needs it
# Of detectron2, of torch about detectron2, and of 1x1 weights in channels-last layout.
HARMLESS = "TypedStorage is deprecated|`broadcast_buffers` is deprecated|Grad strides do not match"


class LostPeer(UserError):
    """Another rank is gone, which has a reason of its own."""


@dataclass
class _Rank:
    number: int
    process: BaseProcess
    reports: Connection  # True once it has met the others; the exception that it failed by
    met: bool = False
    failure: BaseException | None = None

    def hear(self) -> None:
        """Take in what it has reported."""
        code = self.process.exitcode  # first: what it said before it ended is there then
        try:
            while self.reports.poll():
                said = self.reports.recv()
                self.met, self.failure = True, None if said is True else said
        except (EOFError, OSError):  # it has ended
            pass
        if code and self.failure is None:
            ending = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            hint = ", as the system does when memory runs out" if ending == "SIGKILL" else ""
            self.failure = UserError(
                f"process {self.number} of the training ended by {ending}{hint}; "
                "repeat the command to resume from the last checkpoint"
            )


def launch(function: Callable[..., None], args: Sequence[object], hardware: Hardware) -> None:
    """Call `function(*args)` in every rank, or here if one process is all.

    There, `torch.distributed` is initialised and the rank's GPU, if any, is the current one.

    Raises:
        UserError: one that a rank raised, or a rank was killed or lost the others;
        KeyboardInterrupt: by Ctrl-C (by SIGTERM: Terminated), after the ranks have reacted;
        RuntimeError: a rank raised anything else; with its traceback.
    """
    if hardware.world == 1:
        function(*args)
        return
    host, port, server = _rendezvous(hardware)
    ranks = []
    with _noted_signals() as noted:
        try:
            for local in range(hardware.ranks):
                number = hardware.machine_rank * hardware.ranks + local
                ours, theirs = CONTEXT.Pipe(duplex=False)
                job = (local, number, theirs, (host, port), hardware, function, args)
                process = CONTEXT.Process(target=_rank, args=job, name=f"rank{number}")
                with blocked_signals(*SIGNALS):  # they wait until the rank can react
                    process.start()
                theirs.close()
                ranks.append(_Rank(number, process, ours))
            _watch(ranks, noted)
        finally:
            for rank in ranks:
                rank.process.kill()
            for rank in ranks:
                rank.process.join()
            del server  # which an exception's traceback would keep
    failures = [rank.failure for rank in ranks if rank.failure]
    if noted:
        failures.append(Terminated() if signal.SIGTERM in noted else KeyboardInterrupt())
    if failures:
        raise min(failures, key=_explains)


def _explains(error: BaseException) -> tuple[bool, ...]:
    """Least for what is the cause of other ranks' failures."""
    kinds = (LostPeer, KeyboardInterrupt)
    return (*(isinstance(error, kind) for kind in kinds), not isinstance(error, UserError))


def _rendezvous(hardware: Hardware) -> tuple[str, int, TCPStore | None]:
    """Host and port at which ranks meet, and on the first machine their server.

    It lives as long as the launcher, so no rank depends on how another ends.
    """
    url = hardware.dist_url
    try:
        if url == "auto" and hardware.machines > 1:
            raise ValueError(f"there are {hardware.machines} machines")
        where = urlsplit("tcp://127.0.0.1:0" if url == "auto" else url)
        if where.scheme != "tcp" or not where.hostname or where.port is None:
            raise ValueError("no host and port")
        if hardware.machine_rank > 0:
            return where.hostname, where.port, None
        server = TCPStore(where.hostname, where.port, None, True, wait_for_workers=False)
        return where.hostname, server.port, server
    except (ValueError, dist.DistError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"params.yaml: hardware.dist_url: {url} cannot be used ({reason}); it is auto, "
            "on one machine, or tcp://HOST:PORT, with a free port of machine_rank 0"
        ) from error


@contextmanager
def _noted_signals() -> Iterator[list[int]]:
    noted: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {n: signal.signal(n, lambda number, _: noted.append(number)) for n in SIGNALS}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def blocked_signals(*numbers: signal.Signals) -> Iterator[None]:
    """Processes that are started within never get them, unless they unblock them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watch(ranks: Sequence[_Rank], noted: Sequence[int]) -> None:
    """Returns when all have ended, or a little after one has failed."""
    passed_on, deadline = 0, float("inf")
    while alive := [rank for rank in ranks if rank.process.exitcode is None]:
        wait([rank.process.sentinel for rank in alive], timeout=0.1)
        for number in noted[passed_on:]:
            if not all(rank.met for rank in ranks):
                return  # nothing is trained yet: there is nothing to save
            for rank in alive:
                os.kill(rank.process.pid or 0, number)  # not reaped yet, so that it exists
            passed_on += 1
        for rank in ranks:
            rank.hear()
        if any(rank.failure for rank in ranks):
            deadline = min(deadline, time.monotonic() + GRACE)
        if time.monotonic() > deadline:
            return
    for rank in ranks:  # those that ended since they were heard
        rank.hear()


def _rank(
    local: int,
    number: int,
    reports: Connection,
    server: tuple[str, int],
    hardware: Hardware,
    function: Callable[..., None],
    args: Sequence[object],
) -> None:
    """What rank `number`, the `local`-th of its machine, does."""
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has none
        signal.signal(signal.SIGTERM, _terminate)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        warnings.filterwarnings("ignore", message=HARMLESS)
        if hardware.gpus:
            torch.cuda.set_device(local)
        elif "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, torch.get_num_threads() // hardware.ranks))
        dist.init_process_group(
            "nccl" if hardware.gpus else "gloo",
            store=TCPStore(*server, hardware.world, False, timeout=PATIENCE),
            rank=number,
            world_size=hardware.world,
            timeout=PATIENCE,
        )
        comm.synchronize()
        reports.send(True)
        function(*args)
        comm.synchronize()  # nobody leaves while others need them
        dist.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # at once: one was lost by SIGABRT between its last iteration and its end
    except BaseException as error:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # Ctrl-C comes from the terminal, too
        reports.send(_report(error, f"process {number} of the training"))
        sys.stderr.flush()
        os._exit(1)  # at once: NCCL's own end waits for ranks that are gone


def _report(error: BaseException, who: str) -> BaseException:
    """`error` as the launcher raises it."""
    if isinstance(error, UserError | KeyboardInterrupt):
        return error
    if isinstance(error, dist.DistError) or "/gloo/" in str(error):
        reason = str(error).partition("\n")[0]
        return LostPeer(
            f"{who} lost the others ({reason}); where the first one failed, it says why"
        )
    return RuntimeError(f"{who}:\n{''.join(traceback.format_exception(error))}")


def _terminate(*_: Any) -> None:
    raise Terminated


def _end_with_launcher() -> None:
    if launcher := multiprocessing.parent_process():
        launcher.join()
        os.kill(os.getpid(), signal.SIGKILL)  # its lock on the work folder is free again
