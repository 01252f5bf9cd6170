"""Tasks as jobs of a Slurm cluster, through submitit; a disk with the project is on all nodes.

A job has the name of its run's work folder, where submitit's files lie. By them a job that is in
the queue or runs is found again, however the process that submitted it has ended: no run is
submitted twice.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from opmask.errors import UserError
from opmask.training.hardware import KEEP_MEMORY
from study.runs.log import last_log
from study.runs.side_by_side import Task
from study.runs.slurm_job import Job
from study.spec.paths import PUBLISHED

FOLDER = "slurm"  # in a work folder: submitit's
WARNING = "USR2@120"  # what a job hears so many seconds before its time limit
PERIOD = 10.0  # seconds between questions to Slurm
PATIENCE = 60.0  # seconds until what a node has written is seen here
# How jobs end: by no fault of theirs; by one that has a remedy; and otherwise.
AGAIN = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL")
REMEDIES = {
    "CANCELLED": "was cancelled (scancel); repeat dvc repro to resume from its last checkpoint",
    "TIMEOUT": "reached its time limit with nothing done: params.yaml: hardware.slurm.time",
    "DEADLINE": "reached its deadline; repeat dvc repro to resume from its last checkpoint",
    "OUT_OF_MEMORY": "ran out of memory: params.yaml: hardware.slurm.memory",
}
ENDED = (*AGAIN, *REMEDIES, "COMPLETED", "FAILED", "REVOKED", "")


@dataclass
class _Submitted:
    number: str  # Slurm's
    done: int  # iterations, then
    ended: float | None = None  # when it was first seen to have


def run_by_slurm(
    tasks: Sequence[Task],
    folders: Mapping[str, Path],
    hardware: Mapping[str, Any],
    *,
    may_start: Callable[[Task, Sequence[Task]], bool] = lambda _task, _running: True,
    watch: Callable[[Sequence[Task], Sequence[Task]], None] = lambda _waiting, _running: None,
) -> None:
    """Call all `tasks` on nodes of the cluster, submitting them in their order.

    Args:
        tasks: as for `run_side_by_side`; one is done when its folder has PUBLISHED.
        folders: work folders, by the tasks' names.
        hardware: of params.yaml; `slurm` has what is asked for, and how many jobs at a time.
        may_start: whether a task may be submitted beside those that are.
        watch: called every PERIOD, with those not submitted yet and those submitted.

    Raises:
        UserError: Slurm refuses a job or has none of its commands here; or a job failed or was
            cancelled: gives the last line it wrote and where its log is. Other jobs then go on, as
            they do when this process is interrupted or killed.
    """
    live = {name: number for number, state, name in _queue() if state not in ENDED}
    found = {task: _find(folders[task.name], live) for task in tasks}
    running = {task: job for task, job in found.items() if job}
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
            for task, job in list(running.items()):
                state = states.get(job.number) or _accounted(job.number)
                if state not in ENDED or not _is_visible(job, state, folders[task.name]):
                    continue
                del running[task]
                if not (folders[task.name] / PUBLISHED).is_dir():
                    _require_excuse(task, job, state, folders[task.name])
                    waiting.insert(0, task)
        watch(waiting, list(running))
    finally:
        if running:
            tqdm.write(
                f"{len(running)} jobs go on in Slurm; dvc repro finds them, scancel ends them",
                file=sys.stderr,
            )


def _find(folder: Path, live: Mapping[str, str]) -> _Submitted | None:
    """The job in `live`, numbers by name, whose files `folder` has: another copy of the project
    may train the same run."""
    number = live.get(folder.name)
    if number is None or not (folder / FOLDER / f"{number}_submitted.pkl").exists():
        return None
    return _Submitted(number, last_log(folder).done)


def _submit(task: Task, folder: Path, hardware: Mapping[str, Any]) -> _Submitted:
    try:  # an extra, which only clusters need
        import submitit
        from submitit.core.utils import FailedJobError
        from submitit.helpers import clean_env
    except ImportError as error:
        raise UserError(
            "params.yaml: hardware.launcher: slurm needs submitit: uv sync --group slurm"
        ) from error
    asked, exports = hardware["slurm"], {}
    cluster = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    if not asked["gpus"]:
        threads = max(1, asked["cpus"] // hardware["processes"])
        exports = {"OMP_NUM_THREADS": str(threads), **KEEP_MEMORY}
    executor = submitit.SlurmExecutor(folder / FOLDER)
    executor.update_parameters(
        job_name=folder.name,
        partition=asked["partition"],
        account=asked["account"],
        time=asked["time"],
        nodes=asked["nodes"],
        ntasks_per_node=1,
        cpus_per_task=asked["cpus"],
        gpus_per_node=asked["gpus"] or None,
        mem=f"{asked['memory']}G",
        setup=[*asked["setup"], *(f"export {name}={value}" for name, value in exports.items())],
        # Told again: since Slurm 22.05 srun does not take it from sbatch.
        srun_args=[f"--cpus-per-task={asked['cpus']}", "--kill-on-bad-exit=1"],
        stderr_to_stdout=True,
        additional_parameters={"requeue": True, "signal": WARNING, **asked["options"]},
    )
    try:
        with clean_env():  # of the job that this process may itself run in
            os.environ |= cluster
            job = executor.submit(Job(task.call))
    except FailedJobError as error:
        refusal = " ".join(str(error).split())
        raise UserError(f"params.yaml: hardware.slurm: {task.name}: {refusal}") from error
    return _Submitted(job.job_id, last_log(folder).done)


def _is_visible(job: _Submitted, state: str, folder: Path) -> bool:
    """Whether what a job that has ended has left is there, or will never be."""
    job.ended = job.ended or time.monotonic()
    is_late = time.monotonic() - job.ended > PATIENCE
    return is_late or state not in ("COMPLETED", "") or (folder / PUBLISHED).is_dir()


def _require_excuse(task: Task, job: _Submitted, state: str, folder: Path) -> None:
    """Raises UserError unless a job that has ended before its run is to be submitted again."""
    if state in AGAIN or (state == "TIMEOUT" and last_log(folder).done > job.done):
        tqdm.write(f"{task.name}: Slurm ended job {job.number} ({state}); submitted again")
        return
    logs = sorted((folder / FOLDER).glob(f"{job.number}_*_log.out"))
    reason = REMEDIES.get(state) or _last_words(logs) or f"ended ({state or 'unknown to Slurm'})"
    where = ", ".join(map(str, logs)) or "none"
    raise UserError(f"{task.name}: job {job.number}: {reason} (log: {where})")


def _last_words(logs: Sequence[Path]) -> str:
    """The errors in the logs of a job's nodes; or else the last line."""
    lines = [line for log in logs for line in log.read_text().replace("\r", "\n").splitlines()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return "; ".join(dict.fromkeys(errors)) or (lines[-1] if lines else "")


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


def _accounted(number: str) -> str:
    """The state of a job that has left the queue; "" where the cluster keeps no account."""
    command = ["sacct", "--noheader", "--allocations", "--jobs", number, "--format=State%20"]
    with suppress(OSError):
        said = subprocess.run(command, capture_output=True, text=True).stdout.split()
        return said[0] if said else ""
    return ""
