"""Trains one planned run to its end, in its work folder: what a training rests on."""

from collections.abc import Mapping
from typing import Any

from opmask.errors import UserError
from opmask.training import export, trainer
from opmask.training.hardware import hardware_here
from study.runs import jobs
from study.runs.provenance import provenance
from study.runs.work import MODULE, Planned, planned
from study.spec.params import load_params
from study.spec.paths import PUBLISHED
from study.spec.run import components


def train_planned(key: str, work: str) -> None:
    """Train the run `key`, in a process that may have been started before an edit.

    Raises:
        UserError: what determines the run is no longer what gave its work folder the name `work`.
    """
    params = load_params()
    job = planned(key, params)
    if job.work.name != work:  # modules loaded before the edit, others after it
        raise UserError("code, data or parameters were changed meanwhile: repeat dvc repro")
    train(job, params["hardware"])


def train(job: Planned, settings: Mapping[str, Any]) -> None:
    """Train `job`, resuming if it can; on the first machine the finished run is then in the store.

    settings: `hardware` of params.yaml.
    """
    cfg = jobs.run_config(job.specification, job.manifest, job.weights)
    data = jobs.training_data(job.specification, job.manifest)
    hardware = hardware_here(settings)
    trainer.train(cfg, data, job.work, hardware, description=job.key, trunk=job.trunk)
    if hardware.machine_rank > 0:
        return  # the first machine has the results
    run = job.specification["run"]
    modules = [MODULE, *components(job.specification["method"])]
    about = provenance(cfg, hardware, [job.work], modules, run=run["name"], seed=run["seed"])
    export.export_training(job.work, job.work / PUBLISHED, about)
