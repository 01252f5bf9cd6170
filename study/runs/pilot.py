"""A short training and detection of each planned kind of run, and what whole ones would fail by.

All that trains and detects is what the stages use, as many at a time as runs will be.
"""

import json
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opmask.data.coco import Manifest, check, load_json
from opmask.data.splits import resolve
from opmask.errors import UserError
from opmask.evaluation import inference
from opmask.model.weights import FROM_TIMM, local_file
from opmask.training import trainer
from opmask.training.checkpoints import KEPT
from opmask.training.files import FINAL, METRICS, TENSORBOARD
from opmask.training.hardware import hardware_here
from opmask.training.trunk import Trunk
from study.runs.jobs import run_config, training_data
from study.runs.train_all import train_all
from study.runs.work import Planned, as_planned
from study.spec.paths import Paths
from study.spec.run import Run, all_runs

RESULT = "pilot.json"
JUDGED = 100  # iterations from which on a loss that does not fall says something
CACHE = Path(".dvc", "cache")
Row = dict[str, Any]


def measure(
    params: Mapping[str, Any], iterations: int, images: int, places: Sequence[Mapping[str, str]]
) -> list[Row]:
    """Train each planned kind for `iterations`, then detect in so many validation `images`.

    places: of `side_by_side.places_for`.

    Returns a row a kind, with `kind`, `troubles` and, as far as they are known: `weights` it began
    with, given or random; `iterations_per_s` and `images_per_s` by the wall clock, but for
    checkpoints; peak `memory_gib` of its largest process and `gpu_memory_gib` of the fullest GPU;
    `checkpoint_s`, `checkpoint_mb`, and `weights_mb` without the optimiser's state;
    `detection_images_per_s` and `detections_mb`, a thousand images. Nothing stays on the disk.
    """
    paths = Paths.of(params)
    settings = {**params["hardware"], "machines": 1, "machine_rank": 0, "dist_url": "auto"}
    warm_start = list(params["scales"][params["scale"]]["warm_start"])
    kinds = {run.kind: run for run in reversed(all_runs(params))}  # the first of each
    paths.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pilot-", dir=paths.work) as folder:
        jobs = {}
        for kind, run in sorted(kinds.items()):
            job = as_planned(run, params)
            changed = {"max_iter": iterations, "steps": [], "checkpoint_period": iterations + 1}
            spec = {**job.specification, **changed, "snapshot_period": 0}
            work, alone = Path(folder, kind), Trunk(Path(), ())
            jobs[kind] = replace(job, key=kind, specification=spec, work=work, trunk=alone)
        rows = {kind: Row(kind=kind, troubles=[]) for kind in jobs}
        work_of_one = partial(_measure, jobs, warm_start, images, settings)
        try:
            train_all(list(jobs.values()), places, Path(folder, "logs"), work_of_one)
        except UserError as error:  # it was killed, so that it could not say so itself
            name = str(error).partition(":")[0]
            rows[name]["troubles"].append(str(error).partition(" (log:")[0])
        for kind, job in jobs.items():
            with suppress(FileNotFoundError):
                rows[kind] |= json.loads((job.work / RESULT).read_text())
    return list(rows.values())


def _measure(
    jobs: Mapping[str, Planned],
    warm_start: Collection[str],
    images: int,
    settings: Mapping[str, Any],
    kind: str,
    _work: str,
) -> None:
    """What the process of one kind does."""
    job, row = jobs[kind], Row(troubles=[])
    job.work.mkdir(parents=True)
    try:
        hardware = hardware_here(settings)
        cfg = run_config(job.specification, job.manifest, job.weights)
        cfg.MODEL.DEVICE = hardware.device
        untrained = job.specification["run"]["backbone"] in warm_start and not job.weights
        _settle_weights(cfg, row, untrained)
        with _gpu_memory(row, hardware.gpus, job.work / "gpu.log"):
            data = training_data(job.specification, job.manifest)
            trainer.train(cfg, data, job.work, hardware, description=kind)
            _read_training(cfg, job.work, row)
            _detect(cfg, job, images, hardware.workers, row)
    except Exception as error:  # whatever it is: the pilot is there to find it
        name = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        row["troubles"].append(f"{kind}: {name}{' '.join(str(error).split())[:400]}")
    (job.work / RESULT).write_text(json.dumps(row))


def _settle_weights(cfg: CfgNode, row: Row, untrained: bool) -> None:
    """Random weights in place of those of a warm start yet to come, and of what is missing."""
    if untrained:
        cfg.MODEL.WEIGHTS = ""
    elif cfg.MODEL.WEIGHTS not in ("", FROM_TIMM):
        try:
            local_file(cfg.MODEL.WEIGHTS)
        except UserError as error:
            row["troubles"].append(str(error))
            # As fast; it would diverge, as normalisation of a random network is frozen.
            cfg.MODEL.WEIGHTS, cfg.SOLVER.BASE_LR = "", 0.0
    row["weights"] = "given" if cfg.MODEL.WEIGHTS else "random"


def _read_training(cfg: CfgNode, work: Path, row: Row) -> None:
    log = EventAccumulator(str(work / TENSORBOARD)).Reload().Scalars("total_loss")
    first = next(one for one in log if one.step >= min(20, cfg.SOLVER.MAX_ITER // 10))
    row["iterations_per_s"] = (log[-1].step - first.step) / (log[-1].wall_time - first.wall_time)
    row["images_per_s"] = row["iterations_per_s"] * cfg.SOLVER.IMS_PER_BATCH
    row["memory_gib"] = trainer.sessions(work)[-1]["peak_memory_gib"]
    # The log's last line comes just before the final checkpoint, this mark just after it.
    before, after = ((work / name).stat().st_mtime for name in (METRICS, "last_checkpoint"))
    row |= {"checkpoint_s": after - before, "checkpoint_mb": (work / FINAL).stat().st_size / 1e6}
    start, end = log[0].value, log[-1].value
    if cfg.SOLVER.BASE_LR and cfg.SOLVER.MAX_ITER >= JUDGED and end >= start:
        how = f"{start:.3g} at first, {end:.3g} after {cfg.SOLVER.MAX_ITER} iterations"
        row["troubles"].append(f"{work.name}: the loss does not fall: {how}")


def _detect(cfg: CfgNode, job: Planned, images: int, workers: int, row: Row) -> None:
    val, ids = job.manifest.val, [c["id"] for c in job.manifest.categories]
    entries = load_json(val.annotations)["images"][:images]
    model = inference.load_model(cfg, job.work / FINAL)
    row["weights_mb"] = sum(one.nbytes for one in model.state_dict().values()) / 1e6
    started = time.monotonic()
    found = inference.detect(model, cfg, entries, val.images, ids, workers=workers)
    row["detection_images_per_s"] = len(entries) / (time.monotonic() - started)
    row["detections_mb"] = len(json.dumps(found)) / len(entries) / 1e3


@contextmanager
def _gpu_memory(row: Row, gpus: int, log: Path) -> Iterator[None]:
    """Notes down the most that was used, by whomever, of the fullest GPU that this process sees."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--loop=1"]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        query.append(f"--id={visible}")
    if not gpus or not shutil.which(query[0]):
        yield
        return
    with log.open("w") as file, subprocess.Popen(query, stdout=file) as looking:
        try:
            yield
        finally:
            looking.terminate()
    row["gpu_memory_gib"] = max(map(float, log.read_text().split()), default=math.nan) / 2**10


def unreadable_images(manifest: Manifest) -> list[str]:
    """What is wrong with the data set, every image of which is read; once a set."""
    found = []
    for part in (manifest.train, manifest.val):
        try:
            check(part.annotations, part.images, images="decode", on_degenerate="skip")
        except UserError as error:
            found.append(str(error))
    return found


def classes_without_masks(params: Mapping[str, Any], manifest: Manifest) -> list[str]:
    """Classes of a planned run's supervised set of which no training image has a mask."""
    objects = load_json(manifest.train.annotations)["annotations"]
    have = {a["category_id"] for a in objects if "segmentation" in a and not a["iscrowd"]}
    without = {c["name"] for c in manifest.categories if c["id"] not in have}
    runs = [r for r in all_runs(params) if params["methods"][r.method]["mask_head"] != "none"]
    found = []
    for name in dict.fromkeys(run.supervised for run in runs):
        split = resolve(name, manifest.categories, params["splits"])
        if lacking := [one for one in split.supervised if one in without]:
            found.append(f"{name}: supervised, but without a mask: {', '.join(lacking)}")
    return found


def unwritable_folders(params: Mapping[str, Any]) -> list[str]:
    """Folders of the stages in which, or in the first existing one above, no file can be made."""
    paths, found = Paths.of(params), []
    for folder in (paths.work, paths.runs, paths.data, paths.reports, CACHE):
        above = next(one for one in (folder, *folder.absolute().parents) if one.exists())
        try:
            tempfile.TemporaryFile(dir=above).close()
        except OSError as error:
            found.append(f"{folder}: cannot be written to ({error.strerror})")
    return found


def lacking_space(
    runs: Sequence[Run], rows: Sequence[Row], params: Mapping[str, Any], images: int, places: int
) -> list[str]:
    """Whether `runs`, still to be trained, `places` at a time, need more than is free where work/
    is.

    While a run trains it has KEPT checkpoints and its final one; those that it shares stay until
    all are trained. Its weights, and detections in `images` images, are in work/, in runs/ and, if
    that is on the same disk, in DVC's cache.
    """
    kinds, work, need = {row["kind"]: row for row in rows}, Paths.of(params).work, 0.0
    cache = CACHE if CACHE.exists() else Path()
    copies, shared = 2 + (cache.stat().st_dev == work.stat().st_dev), set[tuple[Path, int]]()
    for run in runs:
        row, job = kinds[run.kind], as_planned(run, params)
        period = job.specification["snapshot_period"]
        snapshots = job.iterations // period if period else 0
        own = {(job.trunk.folder, point) for point in job.trunk.points} - shared
        shared |= own
        detections = row.get("detections_mb", 0) * images / 1e3
        need += len(own) * row.get("checkpoint_mb", 0)
        need += copies * ((1 + snapshots) * row.get("weights_mb", 0) + detections)
    training = sorted((kinds[run.kind].get("checkpoint_mb", 0) for run in runs), reverse=True)
    need += (KEPT + 1) * sum(training[:places])
    free = shutil.disk_usage(work).free / 1e6
    if need <= free:
        return []
    return [f"{work}: {need / 1e3:.1f} GB are needed, {free / 1e3:.1f} GB are free"]
