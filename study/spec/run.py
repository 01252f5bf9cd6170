"""Resolves parameters into runs: what is trained, and everything that determines each run.

A run is written METHOD-BACKBONE-SUPERVISED[-SCHEDULE]; with its seed it has one specification, a
plain dict, which the training stage depends on. A parameter that a run does not use cannot
invalidate it.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from opmask.data.splits import SUPERVISED_SETS
from opmask.errors import UserError
from study.spec.params import require


@dataclass(frozen=True)
class Run:
    """One training: `key` names its folder and its DVC stage."""

    name: str
    method: str
    backbone: str
    supervised: str
    schedule: str
    seed: int

    @classmethod
    def from_name(cls, name: str, schedule: str = "", seed: int = 0) -> "Run":
        """The run that `name` stands for, of `schedule` if it names none.

        Raises:
            ValueError: `name` has not three parts, or four.
        """
        if not all(parts := name.split("-")):
            raise ValueError(name)
        method, backbone, supervised, *named = parts
        (own,) = named or [schedule]
        return cls(name, method, backbone, supervised, own, seed)

    @property
    def key(self) -> str:
        return f"{self.name}-{self.seed}"

    @property
    def kind(self) -> str:
        """METHOD-BACKBONE, on which its pace depends."""
        return f"{self.method}-{self.backbone}"

    @property
    def configuration(self) -> tuple[str, str, str, str]:
        """All that tells it from others but its seed, however it is written."""
        return self.method, self.backbone, self.supervised, self.schedule

    def with_method(self, method: str) -> "Run":
        """The same but for its method."""
        name = method + self.name.removeprefix(self.method)
        return Run(name, method, self.backbone, self.supervised, self.schedule, self.seed)


def parse_run(name: str, seed: int, params: Mapping[str, Any]) -> Run:
    """The run that `name` stands for.

    Raises:
        UserError: a part of the name is unknown; lists what exists.
    """
    where = f"params.yaml: runs: {name}"
    try:
        run = Run.from_name(str(name), params["schedule"], seed)
    except ValueError as error:
        form = "METHOD-BACKBONE-SUPERVISED[-SCHEDULE], e.g. opmask-R50-voc"
        raise UserError(f"params.yaml: runs: {name!r} is not {form}") from error
    require(run.method, params["methods"], f"{where}: method")
    require(run.backbone, params["backbones"], f"{where}: backbone")
    require(run.supervised, [*SUPERVISED_SETS, *params["splits"]], f"{where}: split")
    require(run.schedule, params["schedules"], f"{where}: schedule")
    return run


def all_runs(params: Mapping[str, Any]) -> list[Run]:
    """Every run of `runs` with each of its seeds; raises UserError as `parse_run`."""
    seeds = params["seeds"]  # of all, or by run
    return [
        parse_run(name, seed, params)
        for name in params["runs"]
        for seed in (seeds if isinstance(seeds, list) else seeds[name])
    ]


def headline_runs(params: Mapping[str, Any]) -> list[Run]:
    """Of each planned run of suite `headline` the training with its first seed."""
    first = {run.name: run for run in reversed(all_runs(params))}
    return [first[name] for name in params["suites"].get("headline", ()) if name in first]


def shared_specifications(params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Everything in the parameters that determines the data set and the warm start."""
    scale = params["scales"][params["scale"]]
    keys = ("warm_start", "warm_start_scenes", "config", "precision")
    pretrain = {key: scale[key] for key in keys if key in scale}
    pretrain["backbones"] = {name: params["backbones"][name] for name in scale["warm_start"]}
    return {
        "data": {"data_root": params["data_root"], "data": scale["data"]},
        "pretrain": pretrain,
    }


def specification(run: Run, params: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters that determine `run`, with the schedule at the scale's length."""
    scale = params["scales"][params["scale"]]
    schedule = params["schedules"][run.schedule]
    factor = scale["schedule_factor"]
    max_iter = max(1, round(schedule["max_iter"] * factor))
    steps = sorted({max(1, round(step * factor)) for step in schedule["steps"]})
    return {
        "run": asdict(run),
        "scale": params["scale"],
        "method": params["methods"][run.method],
        "backbone": params["backbones"][run.backbone],
        "splits": {k: v for k, v in params["splits"].items() if k == run.supervised},
        "max_iter": max_iter,
        "steps": [step for step in steps if step < max_iter],  # a very short run may end before
        "checkpoint_period": scale["checkpoint_period"],
        "snapshot_period": math.ceil(schedule.get("snapshot_period", 0) * factor),
        "held_out": scale["held_out_images"] if schedule.get("hold_out") else 0,
        "precision": scale["precision"],
        "config": scale["config"],
    }


def components(method: Mapping[str, Any]) -> tuple[str, ...]:
    """Modules that a method's runs use beside those that all runs do."""
    named = method.get("components")
    return (named,) if named else ()


def load_specification(path: Path) -> dict[str, Any]:
    """A file of the `plan` stage.

    Raises:
        UserError: it does not exist; names the runs that do.
    """
    if not path.is_file():
        runs = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise UserError(f"{path}: no such run is planned; there are {runs}")
    return yaml.safe_load(path.read_text())
