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
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import NoReturn
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
CONTEXT: BaseContext = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
# Of detectron2 and of torch about it, and of 1x1 weights in channels-last layout.
HARMLESS = "TypedStorage is deprecated|`broadcast_buffers` is deprecated|Grad strides do not match"
GRACE = 1.0  # seconds after one rank failed in which others may yet say why
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class LostPeer(UserError):
    """Another rank is gone, which has a reason of its own."""


@dataclass
class _Rank:
    number: int
    process: BaseProcess
    reports: Connection  # True once it has met the others, and what it failed by
    met: bool = False
    failure: BaseException | None = None


@dataclass
class _Signals:
    noted: list[int] = field(default_factory=list)

    def note(self, number: int, _frame: FrameType | None) -> None:
        self.noted.append(number)


def launch(function: Callable[..., None], args: Sequence[object], hardware: Hardware) -> None:
    """Call `function(*args)` in every rank, or here if one process is all.

    There, `torch.distributed` is initialised and the rank's GPU, if any, is the current one.

    Raises:
        UserError: one that a rank raised, or a rank was killed or lost the others;
        KeyboardInterrupt: by Ctrl-C (by SIGTERM: Terminated), after the ranks have reacted;
        RuntimeError: a rank raised anything else; its traceback.
    """
    if hardware.world == 1:
        function(*args)
        return
    host, port, _server = _rendezvous(hardware)
    first = hardware.machine_rank * hardware.ranks
    ranks: list[_Rank] = []
    with _noted_signals() as signals:
        try:
            for local in range(hardware.ranks):
                ours, theirs = CONTEXT.Pipe(duplex=False)
                job = (local, theirs, function, args, hardware, host, port)
                process = CONTEXT.Process(target=_rank, args=job, name=f"rank{first + local}")
                with blocked_signals(*SIGNALS):  # they wait until the rank can react
                    process.start()
                theirs.close()
                ranks.append(_Rank(first + local, process, ours))
            _watch(ranks, signals.noted)
        finally:
            codes = [rank.process.exitcode for rank in ranks]
            for rank in ranks:
                rank.process.kill()
            for rank in ranks:
                rank.process.join()
    _raise(ranks, codes, signals.noted)


def _rendezvous(hardware: Hardware) -> tuple[str, int, TCPStore | None]:
    """Host and port at which ranks meet, and on the first machine their server.

    It lives as long as the launcher, so no rank depends on how another ends.
    """
    url = hardware.dist_url
    if url == "auto" and hardware.machines > 1:
        raise UserError(
            "params.yaml: hardware.dist_url: auto is for one machine; "
            f"{hardware.machines} need tcp://HOST:PORT"
        )
    try:
        where = urlsplit("tcp://127.0.0.1:0" if url == "auto" else url)
        host, port = where.hostname, where.port
        if where.scheme != "tcp" or not host or port is None:
            raise ValueError("no host and port")
        if hardware.machine_rank > 0:
            return host, port, None
        store = TCPStore(host, port, None, True, timeout=PATIENCE, wait_for_workers=False)
        return host, store.port, store
    except (ValueError, dist.DistError) as error:
        raise UserError(
            f"params.yaml: hardware.dist_url: {url} cannot be used ({_first_line(error)}); "
            "it is auto or tcp://HOST:PORT, a free port of machine_rank 0"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextmanager
def _noted_signals() -> Iterator[_Signals]:
    signals = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.signal(number, signals.note) for number in SIGNALS}
    try:
        yield signals
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
    passed_on, deadline = 0, None
    while alive := [rank for rank in ranks if rank.process.exitcode is None]:
        if deadline and time.monotonic() > deadline:
            return
        wait([rank.process.sentinel for rank in alive], timeout=0.1)
        for rank in ranks:
            _hear(rank)
        if len(noted) > passed_on and not all(rank.met for rank in ranks):
            return  # nothing is trained yet: there is nothing to save
        for number in noted[passed_on:]:
            for rank in alive:
                os.kill(rank.process.pid or 0, number)  # not reaped yet, so that it exists
        passed_on = len(noted)
        if any(rank.failure or rank.process.exitcode for rank in ranks):
            deadline = deadline or time.monotonic() + GRACE


def _hear(rank: _Rank) -> None:
    try:
        while rank.reports.poll():
            said = rank.reports.recv()
            rank.met, rank.failure = True, None if said is True else said
    except (EOFError, OSError):  # it has ended
        return


def _raise(ranks: Sequence[_Rank], codes: Sequence[int | None], noted: Sequence[int]) -> None:
    """The failure that explains the others'."""
    for rank in ranks:
        _hear(rank)
    failures = [rank.failure for rank in ranks if rank.failure]
    causes = [one for one in failures if not isinstance(one, LostPeer | KeyboardInterrupt)]
    if own := [one for one in causes if isinstance(one, UserError)]:
        raise own[0]
    if noted:
        raise Terminated if signal.SIGTERM in noted else KeyboardInterrupt
    for rank, code in zip(ranks, codes, strict=True):
        if code and rank.failure is None:
            raise UserError(
                f"process {rank.number} of the training ended by {_ending(code)}; "
                "repeat the command to resume from the last checkpoint"
            )
    stops = [one for one in failures if isinstance(one, KeyboardInterrupt)]
    if failures:
        raise [*causes, *stops, *failures][0]


def _ending(code: int) -> str:
    if code == -signal.SIGKILL:
        return "SIGKILL, as the system does when memory runs out"
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _rank(
    local: int,
    reports: Connection,
    function: Callable[..., None],
    args: Sequence[object],
    hardware: Hardware,
    host: str,
    port: int,
) -> None:
    """What a rank does, the `local`-th of its machine."""
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    number = hardware.machine_rank * hardware.ranks + local
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has none
        signal.signal(signal.SIGTERM, _terminate)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        warnings.filterwarnings("ignore", message=HARMLESS)
        if hardware.gpus:
            torch.cuda.set_device(local)
        elif "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, torch.get_num_threads() // hardware.ranks))
        store = TCPStore(host, port, hardware.world, False, timeout=PATIENCE)
        backend = "nccl" if hardware.gpus else "gloo"
        dist.init_process_group(
            backend, store=store, rank=number, world_size=hardware.world, timeout=PATIENCE
        )
        comm.synchronize()
        reports.send(True)
        function(*args)
        comm.synchronize()  # nobody leaves while others need them
        dist.destroy_process_group()
    except (UserError, KeyboardInterrupt) as error:
        _fail(reports, error)
    except Exception as error:
        if isinstance(error, dist.DistError) or "/gloo/" in str(error):
            message = f"process {number} of the training lost the others ({_first_line(error)})"
            _fail(reports, LostPeer(f"{message}; where the first one failed, it says why"))
        _fail(reports, RuntimeError(f"process {number} of the training:\n{traceback.format_exc()}"))


def _fail(reports: Connection, error: BaseException) -> NoReturn:
    reports.send(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)  # at once: NCCL's own end waits for ranks that are gone


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _end_with_launcher() -> None:
    launcher = multiprocessing.parent_process()
    if launcher:
        launcher.join()
        os.kill(os.getpid(), signal.SIGKILL)  # its lock on the work folder is free again
