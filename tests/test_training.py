"""Training is a function of its specification: interruptions and novel masks change nothing."""

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from detectron2.engine import DefaultPredictor
from filelock import FileLock
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny_cfg, write_images

from opmask.data.loader import build_loader
from opmask.errors import UserError
from opmask.model.config import load_config
from opmask.training import trainer
from opmask.training.export import export_training
from opmask.training.hardware import hardware_here, places
from opmask.training.hooks import SafeCheckpointer
from opmask.training.trainer import Hardware
from study.runs import provenance

CPU = Hardware()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


def train(cfg, data, work: Path) -> dict[str, torch.Tensor]:
    final = trainer.train(cfg, data, work, CPU, description="test")
    return torch.load(final, weights_only=True)["model"]


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    return train(tiny_cfg(12), data, tmp_path_factory.mktemp("whole"))


def start_in_background(cfg, data, work: Path) -> subprocess.Popen:
    job = work.with_suffix(".pkl")
    job.write_bytes(pickle.dumps((cfg, data, work)))
    code = (
        "import sys, pickle; import opmask; from opmask.training import trainer\n"
        f"cfg, data, work = pickle.load(open({str(job)!r}, 'rb'))\n"
        "trainer.train(cfg, data, work, trainer.Hardware(), description='test')\n"
    )
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", code])


def wait_for_checkpoint(process: subprocess.Popen, work: Path) -> None:
    deadline = time.monotonic() + 600  # of a machine that hangs
    while not (work / "last_checkpoint").exists():
        assert process.poll() is None, "training ended before its first checkpoint"
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_resumed_training_equals_uninterrupted(number, data, tmp_path, uninterrupted):
    work = tmp_path / "work"
    process = start_in_background(tiny_cfg(12), data, work)
    try:
        wait_for_checkpoint(process, work)
        process.send_signal(number)
        process.wait(600)
    finally:
        process.kill()
    assert not (work / trainer.FINAL).exists(), "it finished before it could be interrupted"
    assert (work / "last_checkpoint").read_text().startswith("model_00000")
    assert_same(train(tiny_cfg(12), data, work), uninterrupted)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, by name; of times only at which steps they are."""
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        name: [(e.step, 0 if "time" in name else e.value) for e in found.Scalars(name)]
        for name in found.Tags()["scalars"]
    }


def logged(folder: Path) -> list[dict[str, float]]:
    """The rows of metrics.json, times as 0."""
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [{k: 0 if "time" in k else v for k, v in row.items()} for row in rows]


class Interrupted(Exception):
    pass


def interrupt_at(iterations: dict[int, str], monkeypatch) -> None:
    """Training stops when it comes to one of these iterations, each once."""
    before_step = trainer.SeedEveryIteration.before_step

    def stop(hook):
        how = iterations.pop(hook.trainer.iter, None)
        if how == "error":
            raise Interrupted
        if how:
            os.kill(os.getpid(), signal.Signals[how])
        before_step(hook)

    monkeypatch.setattr(trainer.SeedEveryIteration, "before_step", stop)


@pytest.mark.slow
def test_logs_of_an_interrupted_training_are_those_of_an_uninterrupted_one(
    data, tmp_path, monkeypatch
):
    """Logged every second iteration, smoothed over 20; checkpoints fall in between."""
    cfg = tiny_cfg(45, SOLVER__CHECKPOINT_PERIOD=5)
    whole = train(cfg, data, tmp_path / "whole")
    stops = {2: "error", 12: "SIGINT", 24: "error", 25: "error", 43: "SIGTERM"}
    interrupt_at(stops, monkeypatch)
    while stops:
        with pytest.raises((Interrupted, KeyboardInterrupt)):
            train(cfg, data, tmp_path / "work")
    assert_same(train(cfg, data, tmp_path / "work"), whole)
    for name in ("whole", "work"):
        export_training(tmp_path / name, tmp_path / "out" / name, "{}")
    a, b = tmp_path / "out/whole", tmp_path / "out/work"
    assert [row["iteration"] for row in logged(a)] == [*range(1, 44, 2), 44]
    assert logged(a) == logged(b) == logged(tmp_path / "whole")
    assert scalars(a / "tensorboard") == scalars(b / "tensorboard")
    assert scalars(a / "tensorboard") == scalars(tmp_path / "whole" / "tensorboard")
    assert scalars(a / "tensorboard") == scalars(tmp_path / "work" / "tensorboard")
    curves = sorted(path.name for path in (a / "losses").iterdir())
    assert {"lr.tsv", "loss_mask.tsv", "total_loss.tsv"} <= set(curves)
    assert curves == sorted(path.name for path in (b / "losses").iterdir())
    for name in curves:
        assert (a / "losses" / name).read_bytes() == (b / "losses" / name).read_bytes()
    header, first, *_, last = (a / "losses/total_loss.tsv").read_text().splitlines()
    assert (header, first.split("\t")[0], last.split("\t")[0]) == ("step\ttotal_loss", "2", "45")


@pytest.mark.parametrize("change", ["delete", "replace"])
def test_masks_of_novel_classes_never_influence_training(change, data, tmp_path):
    content = json.loads(data.annotations.read_text())
    for annotation in content["annotations"]:
        if annotation["category_id"] not in data.supervised_ids:
            annotation.pop("segmentation")
            if change == "replace":
                annotation["segmentation"] = [[0.0, 0.0, 9.0, 0.0, 0.0, 9.0]]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    cfg = tiny_cfg(3)
    assert_same(
        train(cfg, data, tmp_path / "a"),
        train(cfg, replace(data, annotations=other), tmp_path / "b"),
    )


def test_masks_of_supervised_classes_do(data, tmp_path):
    content = json.loads(data.annotations.read_text())
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[0.0, 0.0, 9.0, 0.0, 0.0, 9.0]]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    a = train(tiny_cfg(2), data, tmp_path / "a")
    b = train(tiny_cfg(2), replace(data, annotations=other), tmp_path / "b")
    assert not torch.equal(
        a["roi_heads.mask_head.predictor.weight"], b["roi_heads.mask_head.predictor.weight"]
    )


def test_a_second_trainer_is_refused(data, tmp_path):
    with (
        FileLock(tmp_path / "lock0"),
        pytest.raises(UserError, match="another process is training"),
    ):
        trainer.train(tiny_cfg(), data, tmp_path, CPU, description="test")
    assert os.listdir(tmp_path) == ["lock0"]


def test_a_full_disk_leaves_the_previous_checkpoint(data, tmp_path, monkeypatch):
    save, calls = torch.save, []

    def fails_the_second_time(content, file, **kwargs):
        calls.append(file)
        if len(calls) == 2:
            file.write(b"half a checkpoint")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(content, file, **kwargs)

    monkeypatch.setattr(torch, "save", fails_the_second_time)
    with pytest.raises(UserError, match="No space left on device.*model_0000001.pth"):
        train(tiny_cfg(6), data, tmp_path)
    monkeypatch.undo()
    assert {p.name for p in tmp_path.glob("*.p*t*")} == {
        "model_0000001.pth",
        "model_0000001.pth.sha256",
    }
    assert not list(tmp_path.glob(".*"))
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"
    assert torch.load(tmp_path / "model_0000001.pth", weights_only=True)["iteration"] == 1


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(data, tmp_path):
    cfg = tiny_cfg(40, SOLVER__BASE_LR=1e30, SOLVER__WARMUP_ITERS=8, SOLVER__CHECKPOINT_PERIOD=1)
    with pytest.raises(UserError, match=r"not finite.*model_\d+.pth"):
        train(cfg, data, tmp_path)
    last = tmp_path / (tmp_path / "last_checkpoint").read_text()
    weights = torch.load(last, weights_only=True)["model"]
    assert all(v.isfinite().all() for v in weights.values() if v.is_floating_point())
    assert not (tmp_path / trainer.FINAL).exists()


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model = torch.nn.Linear(2, 2)
    checkpointer = SafeCheckpointer(model, str(tmp_path))
    checkpointer.save("model_0000004")
    model.weight.data[0, 0] = float("nan")
    with pytest.raises(UserError, match="weight is not finite.*model_0000004.pth"):
        checkpointer.save("bad")
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000004.pth"
    assert not (tmp_path / "bad.pth").exists()


def test_detectron2_loads_what_a_run_leaves(data, tmp_path):
    train(tiny_cfg(2), data, tmp_path / "work")
    out = tmp_path / "out"
    export_training(tmp_path / "work", out, "{}")
    shutil.rmtree(tmp_path / "work")
    cfg = load_config(out / "config.yaml")
    cfg.MODEL.WEIGHTS = str(out / trainer.FINAL)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.DATASETS.TEST = ()
    image = torch.randint(0, 255, (64, 64, 3), dtype=torch.uint8).numpy()
    found = DefaultPredictor(cfg)(image)["instances"]
    assert found.pred_masks.shape == (len(found), 64, 64)
    assert len(found) > 0


def test_loader_processes_change_nothing(data):
    from opmask.data.coco import load_training_dicts

    dicts, _ = load_training_dicts(data.annotations, data.images, data.supervised_ids)
    cfg = tiny_cfg()
    alone, helped = (iter(build_loader(dicts, cfg, workers=w)) for w in (0, 2))
    for _ in range(4):
        for a, b in zip(next(alone), next(helped), strict=True):
            assert torch.equal(a["image"], b["image"])
            assert torch.equal(a["instances"].gt_boxes.tensor, b["instances"].gt_boxes.tensor)
            assert a["instances"].gt_has_mask.tolist() == [
                c in (0, 1) for c in a["instances"].gt_classes
            ]


@pytest.mark.parametrize("what", ["missing", "corrupt", "size"])
def test_an_unusable_image_is_named(what, data, tmp_path):
    from PIL import Image

    shutil.copytree(data.images, tmp_path, dirs_exist_ok=True)
    for image in tmp_path.glob("*.png"):
        if what == "missing":
            image.unlink()
        elif what == "corrupt":
            image.write_bytes(image.read_bytes()[:300])
        else:
            Image.new("RGB", (10, 10)).save(image)
    with pytest.raises(UserError, match=r"\d.png: cannot use this image"):
        train(tiny_cfg(2), replace(data, images=tmp_path), tmp_path / "work")


def test_unknown_precision():
    with pytest.raises(UserError, match="fp32 or bf16"):
        trainer.use_precision(torch.nn.Linear(1, 1), "fp16")


def test_snapshots_and_held_out_images(data, tmp_path):
    """Snapshots are the weights a training of that length has; held-out images are never read."""
    cfg = tiny_cfg(3, SOLVER__SNAPSHOT_PERIOD=2)
    held_out_data = replace(data, held_out=2)
    final = train(cfg, held_out_data, tmp_path / "work")
    snapshots = sorted(p.name for p in (tmp_path / "work" / "snapshots").glob("*.pth"))
    assert snapshots == ["model_0000002.pth", "model_0000003.pth"]
    last = torch.load(tmp_path / "work" / "snapshots" / snapshots[-1], weights_only=True)
    assert set(last) == {"model"}
    assert_same(last["model"], final)

    held_out = json.loads((tmp_path / "work" / "held_out.json").read_text())
    assert len(held_out) == 2
    content = json.loads(data.annotations.read_text())
    images = tmp_path / "images"
    shutil.copytree(data.images, images)
    for image in content["images"]:
        if image["id"] in held_out:
            (images / image["file_name"]).unlink()
    assert_same(train(cfg, replace(held_out_data, images=images), tmp_path / "again"), final)


SETTINGS = {"gpus": "auto", "processes": 2, "machines": 1, "machine_rank": 0, "dist_url": "auto"}
SETTINGS |= {"side_by_side": "auto", "workers": 4}


def test_the_device_is_what_hardware_says_where_it_runs(data, tmp_path, monkeypatch):
    """`gpus: 0` beside GPUs means CPU; what was trained on a GPU is evaluated without one."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    on_gpus = hardware_here(SETTINGS)
    assert (on_gpus.device, on_gpus.ranks, on_gpus.workers) == ("cuda", 8, 4)
    on_cpu = hardware_here({**SETTINGS, "gpus": 0})
    assert (on_cpu.device, on_cpu.ranks, on_cpu.workers) == ("cpu", 2, 0)
    monkeypatch.undo()
    cfg = tiny_cfg(2, MODEL__DEVICE="cuda")
    train(cfg, data, tmp_path)
    config = tmp_path / "config.yaml"
    assert "DEVICE: cpu" in config.read_text()
    config.write_text(config.read_text().replace("DEVICE: cpu", "DEVICE: cuda"))
    assert load_config(config).MODEL.DEVICE == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert load_config(tmp_path / "config.yaml").MODEL.DEVICE == "cuda"


@pytest.mark.parametrize(
    ("inherited", "shares"),
    [("6,7", ["6", "7"]), ("GPU-1a,GPU-2b,GPU-3c", ["GPU-1a", "GPU-2b"]), (None, ["0", "1"])],
)
def test_only_inherited_gpus_are_shared_out(inherited, shares, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if inherited:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", inherited)
    found = places({**SETTINGS, "side_by_side": 2}, 2)
    assert [place["CUDA_VISIBLE_DEVICES"] for place in found] == shares


def test_cores_are_shared_by_the_processes_of_a_run(monkeypatch):
    monkeypatch.setattr("opmask.training.hardware.psutil.Process.cpu_affinity", lambda _: range(8))
    monkeypatch.setattr(
        "opmask.training.hardware.psutil.virtual_memory",
        lambda: type("", (), {"available": 2**40}),
    )
    assert [place["OMP_NUM_THREADS"] for place in places(SETTINGS, 0)] == ["1"] * 4
    assert [place["OMP_NUM_THREADS"] for place in places({**SETTINGS, "side_by_side": 1}, 0)] == [
        "4"
    ]


def test_provenance_says_what_trained(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    properties = type("", (), {"name": "H100", "total_memory": 80 * 2**30})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)

    def driver(*_args, **_kwargs):
        return subprocess.CompletedProcess([], 0, stdout="575.57.08\n575.57.08\n")

    monkeypatch.setattr(provenance.subprocess, "run", driver)
    hardware = Hardware(gpus=4, machines=2)
    about = json.loads(provenance.provenance(tiny_cfg(), hardware, [Path("w")], ["pipeline.train"]))
    expected = {"gpu": "H100", "gpu_memory_gib": 80, "gpu_driver": "575.57.08"}
    assert {**expected, "gpus": 8, "processes": 8}.items() <= about["hardware"].items()
