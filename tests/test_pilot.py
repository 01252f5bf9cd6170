"""The pilot: a short training of each kind of run says what whole ones take, and would fail by."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from parameters import write_params
from planned_project import make_params
from tiny import write_images
from torch.utils.tensorboard import SummaryWriter

from opmask.data.coco import load_manifest
from opmask.errors import UserError
from pipeline import data, plan
from pipeline import pilot as command
from study.runs import pilot
from study.spec.paths import Paths
from study.spec.run import all_runs, shared_specifications

RUNS = ["opmask-R50-mine", "opmask-R50-mine-3x", "fasterrcnn-R50-all"]
MEASURED = {
    "iterations_per_s": 2.0,
    "checkpoint_s": 3.0,
    "checkpoint_mb": 100.0,
    "weights_mb": 40.0,
    "detection_images_per_s": 10.0,
    "detections_mb": 5.0,
}


@pytest.fixture
def params(tmp_path, monkeypatch):
    """Of a project in the working directory with a tiny data set, checked; no weights to begin."""
    monkeypatch.chdir(tmp_path)
    made = make_params(RUNS, splits={"mine": ["disc", "box"]})
    made["backbones"]["R50"]["weights"] = "none"
    made["hardware"] |= {"gpus": 0, "side_by_side": 1}
    write_params(made)
    paths = Paths("smoke")
    images = write_images(paths.data / "images").images
    part = {"annotations": "images/instances.json", "images": "images", "counts": {"images": 6}}
    content = json.loads((images / "instances.json").read_text())
    manifest = {"kind": "coco", "root": ".", "train": part, "val": part}
    paths.manifest.write_text(json.dumps(manifest | {"categories": content["categories"]}))
    paths.plan.mkdir(parents=True)
    paths.planned("data").write_text(yaml.safe_dump(shared_specifications(made)["data"]))
    return made


def manifest_of(params):
    return load_manifest(Paths.of(params).manifest)


def left_behind() -> list[str]:
    return sorted(path.name for path in Path("work").glob("*"))


def test_all_that_would_fail_is_listed(params, monkeypatch, capsys):
    annotations = Path("data/smoke/images/instances.json")
    content = json.loads(annotations.read_text())
    for one in content["annotations"]:
        one.pop("segmentation") if one["category_id"] == 5 else None
    annotations.write_text(json.dumps(content))
    image = annotations.with_name("3.png")
    image.write_bytes(image.read_bytes()[:2000])
    full = shutil.disk_usage(".")._replace(free=10**8)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)

    def measured(params, iterations, images, places):
        Path("work").mkdir()
        assert (iterations, images, len(places)) == (10, 3, 1)
        return [
            {"kind": "opmask-R50", "troubles": ["weights x: no such file"], **MEASURED},
            {"kind": "fasterrcnn-R50", "troubles": ["weights x: no such file", "NaN"]},
        ]

    monkeypatch.setattr(pilot, "measure", measured)
    with pytest.raises(SystemExit) as ending:
        command.run(["--iterations", "10", "--images", "3"])
    table, _, found = capsys.readouterr().out.partition("Would fail:\n")
    assert ending.value.code == 1
    masks, images, *rest = [line.removeprefix("- ") for line in found.splitlines()]
    assert masks == "mine: supervised, but without a mask: box"
    assert "3.png" in images  # once, though both sets have it
    assert rest[0] == "weights x: no such file" and rest.count(rest[0]) == 1
    assert "NaN" in rest and "0.1 GB are free" in rest[-1]


def test_supervised_classes_without_masks(params):
    assert pilot.classes_without_masks(params, manifest_of(params)) == []
    annotations = Path("data/smoke/images/instances.json")
    content = json.loads(annotations.read_text())
    for one in content["annotations"]:
        one["iscrowd"] = int(one["category_id"] == 5)  # box
        if one["category_id"] == 7:  # bar, which only `all` supervises
            del one["segmentation"]
    annotations.write_text(json.dumps(content))
    found = pilot.classes_without_masks(params, manifest_of(params))
    assert found == ["mine: supervised, but without a mask: box"]  # fasterrcnn learns no masks


def test_a_folder_that_cannot_be_written_to_is_found_before_anything_is_trained(
    params, monkeypatch, capsys
):
    monkeypatch.setattr(pilot, "measure", lambda *_: pytest.fail("trained"))
    Path("reports").write_text("in the way")
    with pytest.raises(SystemExit) as ending:
        command.run([])
    assert (
        ending.value.code == 1
        and "- reports/smoke: cannot be written to" in capsys.readouterr().out
    )


def test_space_for_checkpoints_weights_and_detections(params, monkeypatch):
    Path("work").mkdir()
    runs, rows = all_runs(params)[:2], [{"kind": "opmask-R50", **MEASURED}]
    # Three checkpoints each, two that they share; weights and 2,000 images of detections, thrice.
    for places, text in ((1, "0.8 GB"), (2, "1.1 GB"), (9, "1.1 GB")):
        need = min(places, 2) * 3 * 100 + 2 * 100 + 2 * 3 * (40 + 10)
        for free, found in ((need, []), (need - 1, [f"work: {text} are needed, {text} are free"])):
            usage = SimpleNamespace(free=free * 1e6)
            monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
            assert pilot.lacking_space(runs, rows, params, 2000, places) == found


def test_days_left(params):
    rows = [{"kind": "opmask-R50", **MEASURED}, {"kind": "fasterrcnn-R50"}]
    first, longer, other = all_runs(params)
    params["scales"]["smoke"]["checkpoint_period"] = 100
    command.add_days_left(rows, {first: 200, longer: 400, other: 0}, params, 50, 2)
    assert rows[0]["runs_left"] == 2 and rows[0]["iterations_left"] == 600
    assert rows[0]["days_left"] == pytest.approx((400 / 2 + 4 * 3 + 50 / 10) / 86400)
    assert (rows[1]["runs_left"], rows[1]["days_left"]) == (0, 0.0)
    assert rows[2]["kind"] == "all" and rows[2]["days_left"] == rows[0]["days_left"]
    rows = rows[:2]
    command.add_days_left(rows, {first: 200, longer: 0, other: 5}, params, 50, 1)
    assert "days_left" not in rows[2]  # nobody knows how long the other kind takes


def test_missing_weights_are_replaced_by_random_ones(capsys):
    def cfg(weights):
        return SimpleNamespace(
            MODEL=SimpleNamespace(WEIGHTS=weights), SOLVER=SimpleNamespace(BASE_LR=0.1)
        )

    for weights, untrained, began in (("", False, "random"), ("/x.pkl", True, "random")):
        row, one = {"troubles": []}, cfg(weights)
        pilot._settle_weights(one, row, untrained)
        assert row == {"troubles": [], "weights": began} and one.SOLVER.BASE_LR == 0.1
    row, one = {"troubles": []}, cfg("/nowhere/x.pkl")
    pilot._settle_weights(one, row, False)
    assert "/nowhere/x.pkl" in row["troubles"][0]
    assert (one.MODEL.WEIGHTS, one.SOLVER.BASE_LR, row["weights"]) == ("", 0.0, "random")


@pytest.mark.parametrize(
    ("losses", "is_found"), [((3.0, 2.0, 1.0), False), ((1.0, 0.5, 1.2), True)]
)
def test_what_a_training_left(losses, is_found, tmp_path):
    with SummaryWriter(str(tmp_path / "tensorboard")) as writer:
        for number, loss in enumerate(losses, start=1):
            writer.add_scalar("total_loss", loss, 50 * number - 1, walltime=1000 + 25 * number)
    for name, when in (
        ("metrics.json", 2000),
        ("last_checkpoint", 2003),
        ("model_final.pth", 2002),
    ):
        (tmp_path / name).write_bytes(b"x" * 3_000_000)
        os.utime(tmp_path / name, (when, when))
    (tmp_path / "sessions.jsonl").write_text('{"seconds": 1.0, "peak_memory_gib": 1.5}\n')
    solver = SimpleNamespace(MAX_ITER=150, IMS_PER_BATCH=16, BASE_LR=0.1)
    row = {"troubles": []}
    pilot._read_training(SimpleNamespace(SOLVER=solver), tmp_path, row)
    troubles = row.pop("troubles")
    assert row == {
        "iterations_per_s": 2.0,
        "images_per_s": 32.0,
        "memory_gib": 1.5,
        "checkpoint_s": 3.0,
        "checkpoint_mb": 3.0,
    }
    assert bool(troubles) == is_found and all("does not fall" in one for one in troubles)


def test_memory_of_the_fullest_gpu(tmp_path, monkeypatch):
    fake = tmp_path / "nvidia-smi"
    fake.write_text(
        '#!/bin/sh\ncase "$*" in *--id=2,3*) echo 1024; echo 3072; echo 2048;; esac\nsleep 1\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    row, log = {}, tmp_path / "log"
    with pilot._gpu_memory(row, 2, log):
        while log.read_text().count("\n") < 3:
            pass
    assert row == {"gpu_memory_gib": 3.0}
    with pilot._gpu_memory(row := {}, 0, log):
        assert row == {}


@pytest.mark.parametrize(
    "error", [UserError("fasterrcnn-R50: killed by SIGKILL (log: x)"), KeyboardInterrupt()]
)
def test_a_killed_kind_is_reported_and_nothing_is_left(error, params, monkeypatch):
    def train_all(jobs, _places, _logs, _train):
        assert [job.key for job in jobs] == ["fasterrcnn-R50", "opmask-R50"]
        assert {job.iterations for job in jobs} == {10}
        jobs[1].work.mkdir()
        (jobs[1].work / pilot.RESULT).write_text(json.dumps(MEASURED | {"troubles": []}))
        raise error

    monkeypatch.setattr(pilot, "train_all", train_all)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            pilot.measure(params, 10, 3, [{}])
    else:
        killed, other = pilot.measure(params, 10, 3, [{}])
        assert killed["troubles"] == ["fasterrcnn-R50: killed by SIGKILL"]
        assert other == {"kind": "opmask-R50", "troubles": []} | MEASURED
    assert left_behind() == []


def test_data_that_were_not_checked_are_refused(params, capsys):
    for arguments, words in (
        (["--iterations", "9"], "--iterations: 9"),
        (["--images", "0"], "--images: 0"),
    ):
        with pytest.raises(SystemExit) as ending:
            command.run(arguments)
        assert ending.value.code == 2 and words in capsys.readouterr().err
    Paths("smoke").planned("data").write_text("data_root: other\n")
    with pytest.raises(SystemExit) as ending:
        command.run([])
    assert ending.value.code == 2 and "dvc repro data" in capsys.readouterr().err


@pytest.mark.slow
def test_on_the_drawn_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    params = make_params(["opmask-R50-voc", "opmask-R50-nonvoc"], warm_start=True)
    params["hardware"] |= {"gpus": 0, "side_by_side": 1}
    write_params(params)
    plan.run([])
    data.run([])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ending:
        command.run(["--iterations", "10", "--images", "5", "--out", "out/pilot.csv"])
    text = capsys.readouterr().out
    assert ending.value.code == 0 and "Nothing was found that would fail" in text
    table = pd.read_csv("out/pilot.csv").set_index("kind")
    assert list(table.columns) == list(command.COLUMNS)[1:] and "Days left" in text
    one = table.loc["opmask-R50"]
    assert one["weights"] == "random"  # the warm start is not trained
    assert one["images_per_s"] == pytest.approx(2 * one["iterations_per_s"])
    for name in ("iterations_per_s", "memory_gib", "checkpoint_s", "detection_images_per_s"):
        assert 0 < one[name] < 1000
    assert 1 < one["checkpoint_mb"] < 100 and one["days_left"] > 0
    assert (one["runs_left"], one["iterations_left"]) == (2, 6)
    assert table.loc["all", "days_left"] == one["days_left"]
    assert left_behind() == []


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_found(params, tmp_path):
    params["scales"]["smoke"]["config"]["SOLVER.BASE_LR"] = 1e30
    job = pilot.as_planned(all_runs(params)[0], params)
    job = pilot.replace(
        job, specification=job.specification | {"max_iter": 10}, work=tmp_path / "x"
    )
    pilot._measure({"opmask-R50": job}, [], 2, params["hardware"], "opmask-R50", "")
    (trouble,) = json.loads((job.work / pilot.RESULT).read_text())["troubles"]
    assert trouble.startswith("opmask-R50: ") and "finite" in trouble
