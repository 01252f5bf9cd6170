"""What a job of Slurm does on each of its nodes: one training, which it saves when told to stop."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from opmask.errors import UserError, main
from study.runs.work import planned
from study.spec.params import load_params

STOPPED = 143  # exit status after SIGTERM


@dataclass(frozen=True)
class Job:
    """Calls `call`, which can be pickled, and exits as `opmask.errors.main` says.

    When the time limit nears and on SIGTERM, which preemption begins with, the call saves and ends.
    The job then goes back into the queue, unless Slurm is ending it, as by scancel, or puts it
    there itself.
    """

    call: Callable[[], None]

    def __call__(self) -> None:
        signal.signal(signal.SIGUSR2, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        try:
            main(lambda _: self.call())([])
        except SystemExit as ending:
            if ending.code == STOPPED and os.environ["SLURM_PROCID"] == "0":
                _requeue(os.environ["SLURM_JOB_ID"])
            raise


def _requeue(job: str) -> None:
    state = ["squeue", "--noheader", "--jobs", job, "--format", "%T"]
    if subprocess.run(state, capture_output=True, text=True).stdout.strip() == "RUNNING":
        subprocess.run(["scontrol", "requeue", job])


def train_planned(hardware: Mapping[str, Any], key: str, work: str) -> None:
    """`study.runs.training.train_planned`, on the nodes of this job.

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
    nodes = int(environment["SLURM_NNODES"])
    # Where srun was started: on the first node, which is machine 0.
    host, port = environment["SLURM_LAUNCH_NODE_IPADDR"], int(environment["SLURM_JOB_ID"]) % 20000
    return {
        **hardware,
        "gpus": hardware["slurm"]["gpus"],
        "machines": nodes,
        "machine_rank": int(environment["SLURM_NODEID"]),
        "dist_url": f"tcp://{host}:{20000 + port}" if nodes > 1 else "auto",
    }
