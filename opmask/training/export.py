"""Publishes a finished training: its work folder without what only resuming it needs."""

import csv
import json
import shutil
from collections import defaultdict
from pathlib import Path

import torch

from opmask.errors import UserError
from opmask.integrity import empty_folder, publish
from opmask.training.files import CONFIG, FINAL, HELD_OUT, METRICS, SNAPSHOTS, TENSORBOARD
from opmask.training.hooks import disk_trouble


def export_training(work: Path, out: Path, provenance: str) -> None:
    """Publish a finished run: weights without optimiser, config, logs; whole or not at all.

    Losses and TensorBoard's scalars are those of metrics.json, however often it was interrupted.
    """
    partial = empty_folder(out.with_name(out.name + ".partial"))
    weights = torch.load(work / FINAL, map_location="cpu", weights_only=True)["model"]
    with disk_trouble(partial / FINAL):
        torch.save({"model": weights}, partial / FINAL)
    for name in (CONFIG, METRICS, HELD_OUT):
        shutil.copy(work / name, partial / name)
    kept = sorted(path.name for path in (work / SNAPSHOTS).glob("*.pth"))
    (partial / SNAPSHOTS).mkdir()
    for name in kept:
        shutil.copy(work / SNAPSHOTS / name, partial / SNAPSHOTS / name)
    (partial / SNAPSHOTS / "index.json").write_text(json.dumps(kept))
    rows = _logged(work)
    _export_losses(rows, partial / "losses")
    _export_tensorboard(rows, partial / TENSORBOARD)
    (partial / "provenance.json").write_text(provenance)
    publish(partial, out)


def _logged(work: Path) -> list[dict[str, float]]:
    path = work / METRICS
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); remove {work} to train anew") from error


def _export_losses(rows: list[dict[str, float]], folder: Path) -> None:
    """`<name>.tsv` of each loss and the learning rate: iterations done, and the value."""
    curves = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            if "loss" in name or name == "lr":
                curves[name].append((int(row["iteration"]) + 1, value))
    folder.mkdir()
    for name, points in curves.items():
        with (folder / f"{name}.tsv").open("w", newline="") as file:
            table = csv.writer(file, delimiter="\t", lineterminator="\n")
            table.writerows([("step", name), *points])


def _export_tensorboard(rows: list[dict[str, float]], folder: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for row in rows:
            for name, value in row.items():
                if name != "iteration":
                    writer.add_scalar(name, value, row["iteration"])
