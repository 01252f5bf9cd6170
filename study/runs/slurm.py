"""Runs as jobs of a Slurm cluster, through submitit; a disk with the project is on all nodes.

A job has the name of its run's work folder, where submitit's files lie. By them a job that is in
the queue or runs is found again, however the process that submitted it has ended: no run is
submitted twice.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from opmask.errors import UserError, main
from opmask.training.hardware import KEEP_MEMORY
from study.runs.side_by_side import Task
from study.runs.work import planned
from study.spec.params import load_params
from study.spec.paths import PUBLISHED

FOLDER = "slurm"  # in a work folder: submitit's
WARNING = "USR2@120"  # what a job hears so many seconds before its time limit
PERIOD = 10.0  # seconds between questions to Slurm
PATIENCE = 60.0  # seconds until what a node has written is seen here
# How jobs end: by no fault of theirs; by one that has a remedy; and otherwise.
AGAIN = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL")
REMEDIES = {
    "CANCELLED": "was cancelled (scancel); repeat dvc repro to resume from its last checkpoint",
    "TIMEOUT": "did not save before its time limit: params.yaml: hardware.slurm.time",
    "OUT_OF_MEMORY": "ran out of memory: params.yaml: hardware.slurm.mem",
}
ENDED = (*AGAIN, *REMEDIES, "COMPLETED", "FAILED", "DEADLINE", "REVOKED", None)


def run_by_slurm(
    tasks: Sequence[Task],
    *,
    folders: Mapping[str, Path],
    hardware: Mapping[str, Any],
    may_start: Callable[[Task, Sequence[Task]], bool],
    watch: Callable[[Sequence[Task], Sequence[Task]], None],
) -> None:
    """`run_side_by_side` on nodes of the cluster, `hardware.slurm.at_once` at a time.

    folders: work folders, by the tasks' names; a task is done when its folder has PUBLISHED.

    Raises:
        UserError: Slurm refuses a job or does not answer; or a job failed or was cancelled: gives
            the last line it wrote and where its log is. Other jobs then go on, as they do when this
            process is interrupted or killed.
    """
    rows = _queue()
    found = {task: _find(folders[task.name], rows) for task in tasks}
    running = {task: number for task, number in found.items() if number}
    waiting = [task for task in tasks if task not in running]
    if running:
        tqdm.write(f"{len(running)} runs have jobs in Slurm already", file=sys.stderr)
    try:
        while waiting or running:
            ready = next((task for task in waiting if may_start(task, list(running))), None)
            if ready and len(running) < hardware["slurm"]["at_once"]:
                running[ready] = _submit(ready, folders[ready.name], hardware)
                waiting.remove(ready)
                continue
            watch(waiting, list(running))
            time.sleep(PERIOD)
            try:
                states = {number: state for number, state, _ in _queue()}
            except UserError as error:  # a controller that is restarted
                tqdm.write(f"{error}; asked again", file=sys.stderr)
                continue
            for task, number in list(running.items()):
                if (state := states.get(number)) in ENDED:
                    del running[task]
                    if not _is_done(task, number, state, folders[task.name]):
                        waiting.insert(0, task)
        watch(waiting, list(running))
    finally:
        if running:
            tqdm.write(f"{len(running)} jobs go on in Slurm; scancel ends them", file=sys.stderr)


def _find(folder: Path, rows: Sequence[tuple[str, str, str]]) -> str | None:
    """The run's job whose files `folder` has: another copy of the project may train the same."""
    alive = [n for n, state, name in rows if name == folder.name and state not in ENDED]
    return next((n for n in alive if (folder / FOLDER / f"{n}_submitted.pkl").exists()), None)


def _submit(task: Task, folder: Path, hardware: Mapping[str, Any]) -> str:
    try:  # an extra, which only clusters need
        from submitit import SlurmExecutor, helpers
        from submitit.core.utils import FailedJobError
    except ImportError as error:
        raise UserError("hardware.launcher: slurm needs submitit: uv sync --group slurm") from error
    asked = dict(hardware["slurm"])
    setup, options, _ = (asked.pop(key) for key in ("setup", "options", "at_once"))
    if not asked["gpus_per_node"]:
        threads = max(1, asked["cpus_per_task"] // hardware["processes"])
        place = {"OMP_NUM_THREADS": str(threads), **KEEP_MEMORY}
        setup = [*setup, *(f"export {name}={value}" for name, value in place.items())]
    executor = SlurmExecutor(folder / FOLDER)
    executor.update_parameters(
        **{key: value for key, value in asked.items() if value},
        job_name=folder.name,
        ntasks_per_node=1,
        setup=setup,
        # Told again: since Slurm 22.05 srun does not take it from sbatch. When one node has failed,
        # the others notice by themselves: SIGTERM by srun would look like preemption.
        srun_args=[f"--cpus-per-task={asked['cpus_per_task']}", "--kill-on-bad-exit=0"],
        stderr_to_stdout=True,
        additional_parameters={"requeue": True, "signal": WARNING, **options},
    )
    cluster = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    try:
        with helpers.clean_env():  # of the job that this process may itself run in
            os.environ |= cluster
            return executor.submit(Job(task.call)).job_id
    except FailedJobError as error:
        refusal = " ".join(str(error).split())
        raise UserError(f"params.yaml: hardware.slurm: {task.name}: {refusal}") from error


def _is_done(task: Task, number: str, state: str | None, folder: Path) -> bool:
    """Whether a job that has ended has done its task; else it is to be submitted again.

    Raises:
        UserError: it failed.
    """
    if state in ("COMPLETED", None) and not (folder / PUBLISHED).is_dir():
        time.sleep(PATIENCE)
    if (folder / PUBLISHED).is_dir():
        return True
    if state in AGAIN:
        tqdm.write(f"{task.name}: Slurm ended job {number} ({state}); submitted again")
        return False
    logs = sorted((folder / FOLDER).glob(f"{number}_*_log.out"))
    lines = [line for log in logs for line in log.read_text().replace("\r", "\n").splitlines()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    last = "; ".join(dict.fromkeys(errors)) or "".join(lines[-1:]) or f"ended ({state})"
    where = ", ".join(map(str, logs)) or "none"
    raise UserError(f"{task.name}: job {number}: {REMEDIES.get(str(state), last)} (log: {where})")


def _queue() -> list[tuple[str, str, str]]:
    """Number, state and name of this user's jobs that are in the queue, run or have ended lately.

    Raises:
        UserError: Slurm has no answer.
    """
    if not shutil.which("squeue"):
        raise UserError("params.yaml: hardware.launcher: slurm: there is no command squeue here")
    command = ["squeue", "--me", "--noheader", "--states=all", "--format=%i %T %j"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"Slurm does not answer: {' '.join(done.stderr.split())}")
    rows = [line.split(" ", 2) for line in done.stdout.splitlines()]
    return [(number, state, name) for number, state, name in rows]


@dataclass(frozen=True)
class Job:
    """What a job does on each of its nodes: calls `call` and exits as `opmask.errors.main` says.

    When the time limit nears and on SIGTERM, which preemption begins with, the call saves and ends.
    If it has not returned, the job then goes back into the queue, unless Slurm is ending it, as by
    scancel, or puts it there itself.
    """

    call: Callable[[], None]

    def __call__(self) -> None:
        signal.signal(signal.SIGUSR2, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        # Slurm sends both to all processes of a job. Those that are started here get them only if
        # they ask for them: others, such as loaders of images, would die.
        threading.Thread(target=threading.Event().wait, daemon=True).start()  # gets them
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGUSR2))
        heard, note = os.pipe()
        os.set_blocking(note, False)
        os.write(note, b"\0")  # so that there is something to read
        signal.set_wakeup_fd(note)  # whatever handlers others install
        try:
            main(lambda _: self.call())([])
        except BaseException:
            job, squeue = os.environ["SLURM_JOB_ID"], ["squeue", "--noheader", "--format=%T"]
            if signal.SIGTERM in os.read(heard, 2**16) and os.environ["SLURM_PROCID"] == "0":
                state = subprocess.run([*squeue, f"--jobs={job}"], capture_output=True).stdout
                if state.strip() == b"RUNNING":
                    subprocess.run(["scontrol", "requeue", job])
            raise


def train_planned(hardware: Mapping[str, Any], key: str, work: str) -> None:
    """`study.runs.training.train_planned` in a job, on all its nodes.

    hardware: of params.yaml when the job was submitted.

    Raises:
        UserError: what determines the run is no longer what gave its work folder the name `work`.
    """
    from study.runs.training import train  # torch, which who submits does not need

    job = planned(key, load_params())
    if job.work.name != work:
        raise UserError("code, data or parameters were changed meanwhile: repeat dvc repro")
    train(job, on_these_nodes(hardware, os.environ))


def on_these_nodes(hardware: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """`hardware` as its `slurm` and the `environment` of a task that srun started have it."""
    nodes, rank = int(environment["SLURM_NNODES"]), int(environment["SLURM_NODEID"])
    # srun was started on the first node, which is machine 0.
    host, port = environment["SLURM_LAUNCH_NODE_IPADDR"], int(environment["SLURM_JOB_ID"]) % 20000
    url = f"tcp://{host}:{20000 + port}" if nodes > 1 else "auto"
    gpus = hardware["slurm"]["gpus_per_node"]
    return {**hardware, "gpus": gpus, "machines": nodes, "machine_rank": rank, "dist_url": url}
