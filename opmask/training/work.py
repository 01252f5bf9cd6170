"""Planned runs: what determines each, where it trains, and how it is published.

Needs neither torch nor detectron2, so that finding out that all is done takes no time.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opmask.data.coco import Manifest, load_manifest
from opmask.planning.plan import all_runs, load_specification
from opmask.planning.plan import specification as specify
from opmask.training.folders import DETECTIONS, PUBLISHED, folder
from opmask.training.trunk import Trunk

MODULE = "pipeline.train"  # what a training rests on


@dataclass(frozen=True)
class Planned:
    """One planned run: what determines it, where it trains and what it publishes."""

    key: str
    specification: dict[str, Any]
    manifest: Manifest
    weights: str  # initial ones, "" where the configuration names them
    work: Path
    out: Path
    trunk: Trunk = field(default=Trunk(Path(), ()), compare=False)  # shared with other runs

    def is_published(self) -> bool:
        """Whether `out` holds this very run, of this configuration, data and code."""
        try:
            about = json.loads((self.out / "provenance.json").read_text())
        except FileNotFoundError:
            return False
        return about["work"] == self.work.name

    def publish(self) -> None:
        """Move the finished run to `out`, and clear its work folder but for its detections."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        (self.work / PUBLISHED).rename(self.out)
        kept = list(self.work.glob(DETECTIONS))
        for path in self.work.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path not in kept:
                path.unlink()
        if not kept:
            self.work.rmdir()


def planned(key: str, params: Mapping[str, Any]) -> Planned:
    """The planned run `key` (`runs/<scale>/plan/<key>.yaml`).

    Raises:
        UserError: no such run is planned; lists those that are.
    """
    scale = params["scale"]
    root = Path("runs", scale)
    specification = load_specification(root / "plan" / f"{key}.yaml")
    manifest = load_manifest(Path("data", scale, "manifest.json"))
    weights = root / "pretrain" / "weights" / f"{specification['run']['backbone']}.pth"
    files = [manifest.train.annotations, weights]
    work = folder(f"{scale}-{key}", MODULE, specification, files)
    given = str(weights) if weights.exists() else ""
    trunk = Trunk(
        folder(f"{scale}-trunk", MODULE, trunk_specification(specification), files),
        branch_points(specification, params),
    )
    return Planned(key, specification, manifest, given, work, root / "train" / key, trunk)


def trunk_specification(specification: Mapping[str, Any]) -> dict[str, Any]:
    """What a run shares with those that differ from it in schedule alone."""
    own = ("run", "max_iter", "steps", "snapshot_period")
    run = {k: v for k, v in specification["run"].items() if k not in ("name", "schedule")}
    return {**{k: v for k, v in specification.items() if k not in own}, "run": run}


def branch_points(specification: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[int, ...]:
    """After how many iterations a run is last the same as some other planned one.

    One iteration before the step, as a checkpoint holds the next iteration's learning rate. Runs
    that keep snapshots share nothing.
    """
    planned = [specify(run, params) for run in all_runs(params)]
    shared = trunk_specification(specification)
    alike = [s for s in planned if trunk_specification(s) == shared and not s["snapshot_period"]]
    if specification["snapshot_period"] or len(alike) < 2:
        return ()
    own = _before_first_step(specification)
    points = {_before_first_step(s) for s in alike}
    return tuple(sorted(point for point in points if 0 < point <= own))


def _before_first_step(specification: Mapping[str, Any]) -> int:
    return min([specification["max_iter"], *specification["steps"]]) - 1
