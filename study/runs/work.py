"""Planned runs: what determines each, and where it trains.

Needs neither torch nor detectron2, so that finding out that all is done takes no time.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opmask.data.coco import Manifest, load_manifest
from opmask.training.trunk import Trunk, log_period
from study.runs.folders import folder
from study.spec.paths import PROVENANCE, PUBLISHED, Paths
from study.spec.run import Run, all_runs, components, load_specification, specification

MODULE = "study.runs.training"  # what a training rests on


@dataclass(frozen=True)
class Planned:
    """One planned run: what determines it, where it trains and where it is published."""

    key: str
    specification: dict[str, Any]
    manifest: Manifest
    weights: str  # initial ones, "" where the configuration names them
    work: Path
    out: Path
    trunk: Trunk = Trunk(Path(), ())  # shared with other runs

    @property
    def iterations(self) -> int:
        """Length of the whole training."""
        return int(self.specification["max_iter"])

    def is_published(self) -> bool:
        """Whether `out` holds this very run, of this configuration, data and code.

        What provenance.json says is compared and never used: it may come from anywhere.
        """
        try:
            about = json.loads((self.out / PROVENANCE).read_text())
        except (OSError, ValueError):
            return False
        return isinstance(about, dict) and about.get("work") == self.work.name

    def waits_for(self, other: "Planned") -> bool:
        """Whether `other`, which is training, has yet to leave what the two share."""
        point = self.trunk.shared(other.trunk)
        return point > 0 and not self.trunk.checkpoint(point).exists()

    def trim(self) -> None:
        """Clear the work folder of what only training needs, now that the finished run is there."""
        for path in self.work.iterdir():
            if path.name != PUBLISHED and not path.name.startswith("lock"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def planned(key: str, params: Mapping[str, Any]) -> Planned:
    """The run `key` as stage `plan` wrote it, on whose file its stages depend.

    Raises:
        UserError: no such run is planned; lists those that are.
    """
    return _planned(key, load_specification(Paths.of(params).planned(key)), params)


def as_planned(run: Run, params: Mapping[str, Any]) -> Planned:
    """The run as params.yaml has it now, whatever stage `plan` wrote last."""
    return _planned(run.key, specification(run, params), params)


def _planned(key: str, spec: dict[str, Any], params: Mapping[str, Any]) -> Planned:
    paths = Paths.of(params)
    weights = paths.initial(spec["run"]["backbone"])
    modules = [MODULE, *components(spec["method"])]
    files = [paths.manifest, weights]  # the manifest has digests of annotations and images
    return Planned(
        key,
        spec,
        load_manifest(paths.manifest),
        str(weights) if weights.exists() else "",
        folder(key, modules, spec, files, params),
        paths.train / key,
        Trunk(
            folder("trunk", modules, trunk_specification(spec), files, params),
            branch_points(spec, params),
        ),
    )


def trunk_specification(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What a run shares with those that differ from it in schedule, or in what is only tested."""
    own = ("run", "max_iter", "steps", "snapshot_period")
    run = {k: v for k, v in spec["run"].items() if k not in ("name", "schedule", "method")}
    shared = {k: v for k, v in spec.items() if k not in own}
    method = {k: v for k, v in spec["method"].items() if k != "prior_kind_at_test"}
    return {**shared, "run": run, "method": method, "log_period": log_period(spec["max_iter"])}


def branch_points(spec: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[int, ...]:
    """After how many iterations a run is last the same as some other planned one.

    One iteration before the step, as a checkpoint holds the next iteration's learning rate. Runs
    that keep snapshots share nothing.
    """
    planned = [specification(run, params) for run in all_runs(params)]
    shared = trunk_specification(spec)
    alike = [s for s in planned if trunk_specification(s) == shared and not s["snapshot_period"]]
    if spec["snapshot_period"] or len(alike) < 2:
        return ()
    own = _before_first_step(spec)
    points = {_before_first_step(s) for s in alike}
    return tuple(sorted(point for point in points if 0 < point <= own))


def _before_first_step(spec: Mapping[str, Any]) -> int:
    return min([spec["max_iter"], *spec["steps"]]) - 1
