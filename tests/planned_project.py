"""A project in the working directory whose data are planned and made, and nothing is trained."""

import json
from copy import deepcopy
from pathlib import Path

import yaml
from parameters import write_params

from opmask.integrity import seal
from study.runs.store import trainings
from study.runs.work import Planned, as_planned
from study.spec.params import load_params
from study.spec.paths import PUBLISHED, Paths
from study.spec.run import Run, all_runs, shared_specifications

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
PARAMS |= {"scale": "smoke", "schedule": "130k", "seeds": [0]}  # 130k is 3 iterations
RUNS = ["opmask-R50-voc", "maskrcnn-R50-voc"]


def make_params(runs=RUNS, warm_start=False, **changed) -> dict:
    """Parameters of a project without, or with, a warm start; written to params.yaml."""
    params = deepcopy(PARAMS) | {"runs": list(runs)} | changed
    if not warm_start:
        params["scales"]["smoke"]["warm_start"] = {}
    write_params(params)
    return params


def write_plan(params: dict) -> None:
    """What stage `plan` writes about data and warm start, and a data set of two categories."""
    plan, data = Path("runs/smoke/plan"), Path("data/smoke")
    for folder in (plan, data):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in shared_specifications(params).items():
        (plan / f"{name}.yaml").write_text(yaml.safe_dump(content))
    (data / "train.json").write_text("{}")
    part = {"annotations": "train.json", "images": "train", "counts": {"images": 10}}
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "kite"}]
    manifest = {"kind": "coco", "categories": categories, "root": ".", "train": part, "val": part}
    (data / "manifest.json").write_text(json.dumps(manifest))


def job_of(params: dict, number: int = 0) -> Planned:
    return as_planned(run_of(params, number), params)


def run_of(params: dict, number: int = 0) -> Run:
    return all_runs(params)[number]


def log_line(iteration: int, **values) -> str:
    values = {"iteration": iteration, "time": 2.0, "total_loss": 3.0, "loss_cls": 1.5} | values
    return json.dumps(values) + "\n"


def finish(job: Planned, **about) -> None:
    """What a finished training leaves in work/."""
    (job.work / PUBLISHED).mkdir(parents=True)
    about = {"work": job.work.name, "run": job.key[:-2], "iterations": 3, "wall_s": 30.0} | about
    (job.work / PUBLISHED / "provenance.json").write_text(json.dumps(about))
    (job.work / PUBLISHED / "metrics.json").write_text(log_line(2))
    seal(job.work / PUBLISHED)


def publish(*jobs: Planned) -> None:
    """What stage `train` leaves in runs/ of these runs, and in work/ what they lack there."""
    store = trainings(Paths("smoke"))
    for job in jobs:
        if not store.has(job.work.name):
            finish(job)
    store.fill(Path("runs/smoke/train"), {job.key: job.work.name for job in jobs})
