"""Stage `search`: every snapshot that a training left, on training images held out of it (§ 4.5).

Writes `runs/<scale>/search/<run>/`: `curve.csv` (columns: `study.analysis.held_out.CURVE`) and
the mask matches of each snapshot; and `runs.json`, which runs these are. Only trainings whose
schedule has a `snapshot_period` leave snapshots.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from opmask.data.coco import Manifest, load_json, load_manifest
from opmask.errors import UserError
from opmask.evaluation.coco_ap import Matches, evaluate, subset_summary
from opmask.integrity import verified
from pipeline import stage
from pipeline.evaluate import config, mask_threshold
from study.analysis.held_out import CURVE, FILE, Groups, class_groups, matches_path, restrict
from study.analysis.resampling import resample
from study.runs.measured import Measurement, collect
from study.runs.store import measurements
from study.spec.params import load_params
from study.spec.paths import CONFIG, HELD_OUT, SNAPSHOTS, Paths
from study.spec.run import Run, all_runs, components

NAN = float("nan")

Task = Literal["segm", "bbox"]
TASKS: tuple[Task, ...] = ("segm", "bbox")
Detect = Callable[[Path], list[dict[str, Any]]]  # COCO results of a snapshot


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.search", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    paths = Paths.of(params)
    wanted = [
        _measurement(one, params) for one in all_runs(params) if snapshots(paths.train / one.key)
    ]
    collect(wanted, paths.search, measurements(paths, "search"), params["hardware"])


def _measurement(one: Run, params: Mapping[str, Any]) -> Measurement:
    paths = Paths.of(params)
    manifest, trained = load_manifest(paths.manifest), paths.train / one.key
    groups = class_groups(one.supervised, manifest.categories, params["splits"])
    files = [*snapshots(trained).values(), trained / HELD_OUT, trained / CONFIG, paths.manifest]
    measure = partial(measure_all, trained, manifest, groups, params)
    settings = {"groups": groups, "bootstrap": params["bootstrap"]}
    settings["mask_threshold"] = mask_threshold(params)
    modules = ["pipeline.search", *components(params["methods"][one.method])]
    return Measurement(one.key, modules, settings, files, measure)


def snapshots(trained: Path) -> dict[int, Path]:
    """A trained run's snapshots by the number of iterations done, ascending; may be empty."""
    found = sorted(verified(trained / SNAPSHOTS).glob("model_*.pth"))
    return {int(path.stem.removeprefix("model_")): path for path in found}


def held_out(trained: Path) -> list[int]:
    """Ids of the images that a run was not trained on. Raises UserError if there are none."""
    path = trained / HELD_OUT
    ids = json.loads(verified(path).read_text()) if path.is_file() else []
    if not ids:
        raise UserError(f"{path}: names no held-out image; set `hold_out: true` in the schedule")
    return ids


def detector(trained: Path, manifest: Manifest, params: Mapping[str, Any]) -> Detect:
    """Runs a snapshot on the run's held-out images. torch is imported only here."""
    from opmask.evaluation import inference

    cfg, workers = config(trained, params["hardware"])
    threshold, wanted = mask_threshold(params), set(held_out(trained))
    images = [i for i in load_json(manifest.train.annotations)["images"] if i["id"] in wanted]
    ids = [category["id"] for category in manifest.categories]

    def detect(weights: Path) -> list[dict[str, Any]]:
        model, data = inference.load_model(cfg, weights, threshold), (manifest.train.images, ids)
        name = f"{trained.name} {weights.stem}"
        return inference.detect(model, cfg, images, *data, workers=workers, description=name)

    return detect


def measure_all(
    trained: Path, manifest: Manifest, groups: Groups, params: Mapping[str, Any], out: Path
) -> None:
    """The curve of a run, `curve.csv` in `out`, and beside it mask matches of each snapshot."""
    detect = detector(trained, manifest, params)
    dataset, frames = load_json(manifest.train.annotations), []
    with tempfile.TemporaryDirectory() as folder:
        truth = {task: Path(folder, f"{task}.json") for task in TASKS}
        for task, path in truth.items():
            path.write_text(json.dumps(restrict(dataset, held_out(trained), task)))
        for iteration, weights in snapshots(trained).items():
            rows, matches = measure(truth, detect(weights), groups, **params["bootstrap"])
            matches.save(matches_path(out, iteration))
            frames.append(rows.assign(iteration=iteration)[CURVE])
    pd.concat(frames).round(4).to_csv(out / FILE, index=False)


def measure(
    truth: Mapping[Task, Path],
    detections: Sequence[dict[str, Any]],
    groups: Groups,
    *,
    resamples: int,
    seed: int,
) -> tuple[pd.DataFrame, Matches]:
    """AP and AP50 of one snapshot by task and class group, and its matches of masks.

    Args:
        truth: ground truth by task, of `restrict`.
        detections: COCO results on the held-out images.
        groups: of `class_groups`.
        resamples, seed: of the bootstrap over images, which gives mask AP its interval.

    Returns:
        Columns of CURVE without iteration.
    """
    rows, matches = [], {}
    for task, path in truth.items():
        result = evaluate(path, detections, task=task)
        table, matches[task] = result.per_class(), result.matches
        if task == "segm":
            resampled = resample({seed: result.matches}, resamples=resamples, seed=seed)["AP"]
        for classes, ids in groups.items():
            summary, ends = subset_summary(table, ids), (NAN, NAN)
            if task == "segm":
                found = resampled.of(ids).estimate()
                ends = found.low, found.high
            rows.append((classes, task, "AP", summary["AP"], *ends))
            rows.append((classes, task, "AP50", summary["AP50"], NAN, NAN))
    return pd.DataFrame(rows, columns=CURVE[1:]), matches["segm"]


if __name__ == "__main__":
    run()
