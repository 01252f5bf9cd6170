"""Stage `search`: section 4.5's search for a schedule, on training images held out of training.

With a run, e.g. `opmask-R50-voc-search-0`: measures every snapshot that it left, into
`runs/<scale>/search/<run>.csv` (columns: `opmask.analysis.search.CURVE`), with mask matches in
`<run>/` beside it; a run that left no snapshots gives an empty table. Without a run: writes
`schedule_search`, a table in `reports/<scale>/tables/` and a figure in `reports/<scale>/figures/`,
of all that were measured.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from opmask.analysis.search import (
    CURVE,
    NAN,
    Groups,
    class_groups,
    matches_path,
    read_curves,
    restrict,
    search_markdown,
    search_table,
)
from opmask.data.coco import Manifest, load_manifest, read_json
from opmask.errors import UserError, main
from opmask.evaluation.bootstrap import interval
from opmask.evaluation.coco_ap import Matches, evaluate, subset_summary
from opmask.planning.params import load_params
from opmask.planning.plan import all_runs, load_specification
from pipeline import RUN_HELP

Detect = Callable[[Path], list[dict[str, Any]]]  # COCO results of a snapshot


@main
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.search", description=__doc__)
    parser.add_argument("run", nargs="?", help=RUN_HELP)
    key = parser.parse_args(argv).run
    params = load_params()
    root = Path("runs", params["scale"])
    manifest = load_manifest(Path("data", params["scale"], "manifest.json"))
    if not key:
        report(root, Path("reports", params["scale"]), manifest, params)
        return
    spec = load_specification(root / "plan" / f"{key}.yaml")
    out, partial = root / "search" / key, root / "search" / f"{key}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    curve = pd.DataFrame(columns=CURVE)
    if snapshots(root / "train" / key):
        groups = class_groups(spec["run"]["supervised"], manifest.categories, spec["splits"])
        detect = detector(root / "train" / key, manifest, params["hardware"], key)
        curve = measure_all(root / "train" / key, manifest, groups, detect, partial, params)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    curve.to_csv(out.with_suffix(".csv"), index=False)


def snapshots(trained: Path) -> dict[int, Path]:
    """A trained run's snapshots by the number of iterations done, ascending; may be empty."""
    found = sorted((trained / "snapshots").glob("model_*.pth"))
    return {int(path.stem.removeprefix("model_")): path for path in found}


def held_out(trained: Path) -> list[int]:
    """Ids of the images that a run was not trained on. Raises UserError if there are none."""
    path = trained / "held_out.json"
    ids = json.loads(path.read_text()) if path.is_file() else []
    if not ids:
        raise UserError(f"{path}: names no held-out image; set `hold_out: true` in the schedule")
    return ids


def detector(trained: Path, manifest: Manifest, hardware: Mapping, key: str) -> Detect:
    """Runs a snapshot on the run's held-out images. torch is imported only here."""
    from detectron2.config import CfgNode

    from opmask.evaluation import inference
    from opmask.training import jobs

    cfg = CfgNode.load_cfg((trained / "config.yaml").read_text())
    wanted = set(held_out(trained))
    images = [i for i in read_json(manifest.train.annotations)["images"] if i["id"] in wanted]
    ids = [category["id"] for category in manifest.categories]
    workers = jobs.hardware(hardware).workers

    def detect(weights: Path) -> list[dict[str, Any]]:
        model, name = inference.load_model(cfg, weights), f"{key} {weights.stem}"
        folder = manifest.train.images
        return inference.detect(model, cfg, images, folder, ids, workers=workers, description=name)

    return detect


def measure_all(
    trained: Path,
    manifest: Manifest,
    groups: Groups,
    detect: Detect,
    out: Path,
    params: Mapping[str, Any],
) -> pd.DataFrame:
    """The curve of a run, columns CURVE; mask matches of each snapshot go to `out`."""
    dataset, frames = read_json(manifest.train.annotations), []
    with tempfile.TemporaryDirectory() as folder:
        truth = {task: Path(folder, f"{task}.json") for task in ("segm", "bbox")}
        for task, path in truth.items():
            path.write_text(json.dumps(restrict(dataset, held_out(trained), task)))
        for iteration, weights in snapshots(trained).items():
            rows, matches = measure(truth, detect(weights), groups, **params["bootstrap"])
            matches.save(matches_path(out, iteration))
            frames.append(rows.assign(iteration=iteration)[CURVE])
    return pd.concat(frames).round(4)


def measure(
    truth: Mapping[str, Path],
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
        for classes, ids in groups.items():
            summary, ends = subset_summary(table, ids), (NAN, NAN)
            if task == "segm":
                spread = interval([result.matches], ids, resamples=resamples, seed=seed)
                ends = spread.low, spread.high
            rows.append((classes, task, "AP", summary["AP"], *ends))
            rows.append((classes, task, "AP50", summary["AP50"], NAN, NAN))
    return pd.DataFrame(rows, columns=CURVE[1:]), matches["segm"]


def report(root: Path, reports: Path, manifest: Manifest, params: Mapping[str, Any]) -> None:
    """Table and figure of every run that was measured."""
    from opmask.figures import search as figure
    from opmask.figures import style

    runs, factor = all_runs(params), params["scales"][params["scale"]]["schedule_factor"]
    curves = read_curves(root / "search", runs)
    groups = {
        name: class_groups(name, manifest.categories, params["splits"])
        for name in curves["supervised"].unique()
    }
    table = search_table(root / "search", curves, groups, factor, **params["bootstrap"]).round(4)
    (reports / "tables").mkdir(parents=True, exist_ok=True)
    table.to_csv(reports / "tables" / "schedule_search.csv", index=False)
    text = f"# Schedule search\n\n{search_markdown(table)}\n"
    (reports / "tables" / "schedule_search.md").write_text(text, encoding="utf-8")
    data = figure.figure_data(curves, table, factor)
    style.save(
        figure.draw(data, params["schedules"], factor), reports / "figures", "schedule_search"
    )
    data.to_csv(reports / "figures" / "schedule_search.csv", index=False)


if __name__ == "__main__":
    run()
