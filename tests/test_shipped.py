"""Initial weights that come with the project: small, whole, and of the recipe that is said."""

import json
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from opmask.data.loader import TrainingBatches
from opmask.errors import UserError
from opmask.miniature.catalogue import classes
from opmask.shipped import FOLDER, pack, shipped_file, unpack
from opmask.training import trainer
from opmask.training.hardware import Hardware
from pipeline import pretrain
from study.runs.configs import warm_start_config
from study.spec.dotted import leaves
from study.spec.params import load_params
from study.spec.paths import Paths

build = import_module("opmask.miniature.build")  # the package's `build` is a function
LIMIT = 8 * 2**20


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(3,), (1,), (4, 3), (2, 3, 1, 1), (5, 2, 3, 3)]),
    st.floats(1e-6, 1e3),
)
@settings(max_examples=40, deadline=None)
def test_what_is_packed_comes_back(tmp_path_factory, seed, shape, size):
    """To half a step of 127 a channel, where it has several dimensions; else to the last bit."""
    value = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size
    value[0] = 0  # a channel that is all zero
    path = tmp_path_factory.mktemp("packed") / "w.safetensors"
    pack({"a.weight": value}, {"backbone": "R50"}, path)
    found, about = unpack(path)
    assert about == {"backbone": "R50"}
    assert found["a.weight"].dtype == torch.float32
    if value.ndim == 1:
        assert torch.equal(found["a.weight"], value)
        return
    for own, back in zip(value, found["a.weight"], strict=True):
        step = own.abs().max().item() / 127
        np.testing.assert_allclose(back.numpy(), own.numpy(), atol=0.501 * step + 1e-30)
        assert back.abs().max() == pytest.approx(own.abs().max().item(), rel=1e-6)


def test_shipped_files_are_small_and_say_what_made_them():
    files = sorted(FOLDER.glob("*.safetensors"))
    assert {path.stem for path in files} == {"R50", "R101"}
    assert sum(path.stat().st_size for path in files) < LIMIT
    for path in files:
        weights, about = unpack(path)
        assert about["backbone"] == path.stem
        assert about["commit"] and about["iterations"] > 0
        assert all(value.isfinite().all() for value in weights.values())
        assert not any("mask" in name for name in weights)


def test_of_another_backbone_there_are_none():
    with pytest.raises(UserError, match="lite0.*R101, R50"):
        shipped_file("lite0")


def test_pretraining_scenes_are_none_of_the_miniatures():
    """Another seed: not one picture of the runs' data can come up."""
    scale = yaml.safe_load(Path("scales/miniature.yaml").read_text())
    assert scale["warm_start_scenes"]["seed"] != scale["data"]["seed"]


def test_another_model_is_refused(tmp_path, monkeypatch):
    params = load_params(Path("params.yaml"))
    config = params["scales"]["miniature"]["config"]
    config["MODEL.FPN.OUT_CHANNELS"] = 32
    monkeypatch.setattr(Paths, "of", lambda _: Paths("miniature", tmp_path))
    manifest = SimpleNamespace(categories=[{}] * 80)
    monkeypatch.setattr("opmask.data.coco.load_manifest", lambda _: manifest)
    with pytest.raises(UserError, match="R50 are of another model .*initial_weights: train"):
        pretrain.take_shipped("R50", params)
    config["MODEL.FPN.OUT_CHANNELS"] = 64
    (tmp_path / "runs/miniature/pretrain/weights").mkdir(parents=True)
    assert pretrain.take_shipped("R50", params) == []
    unpacked = torch.load(tmp_path / "runs/miniature/pretrain/weights/R50.pth", weights_only=True)
    for name, value in unpack(shipped_file("R50"))[0].items():
        assert torch.equal(unpacked["model"][name], value)


@pytest.mark.slow
def test_the_recipe_still_begins_as_it_did(tmp_path, monkeypatch):
    """The first iterations of the first phase, on the scenes that they need, drawn here."""
    scale = yaml.safe_load(Path("scales/miniature.yaml").read_text())
    phase = dict(leaves(scale["warm_start"]["R50"]["phases"][0]))
    params, manifest = load_params(Path("params.yaml")), SimpleNamespace(categories=[{}] * 80)
    settings = params["scales"]["miniature"], params["backbones"]["R50"]
    cfg = warm_start_config(phase, *settings, manifest)
    cfg.MODEL.WEIGHTS = ""
    expected = unpack(shipped_file("R50"))[1]["first_losses"]
    last = int(list(expected)[1]) + 1
    scenes = scale["warm_start_scenes"]
    size, images = cfg.SOLVER.IMS_PER_BATCH, scenes["train_images"]
    batches = islice(iter(TrainingBatches([False] * images, size, cfg.SEED)), last)
    annotations = draw(tmp_path, scenes, {index for batch in batches for index, _ in batch})
    stop_at(last, monkeypatch)
    data = trainer.TrainingData(annotations, tmp_path, ())
    with pytest.raises(KeyboardInterrupt):
        trainer.train(cfg, data, tmp_path / "work", Hardware(), description="R50")
    log = (tmp_path / "work/metrics.json").read_text().splitlines()
    found = {str(row["iteration"]): row["total_loss"] for row in map(json.loads, log)}
    for iteration in list(expected)[:2]:
        assert found[iteration] == pytest.approx(expected[iteration], rel=0.01)


def draw(folder: Path, scenes: dict, wanted: set[int]) -> Path:
    """COCO json of all scenes, of which only those `wanted` are drawn, others have some box."""
    plans = build._plans(scenes["seed"], 0, scenes["train_images"], scenes["min_train_instances"])
    some = {"category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}
    images, annotations = [], []
    for index, one in enumerate(plans):
        name = build.file_name(index)
        images.append({"id": index + 1, "file_name": name, "width": 160, "height": 160})
        found = [some | {"image_id": index + 1}]
        if index in wanted:
            found = build._draw(folder, scenes["seed"], 0, 160, (index, one))
        annotations += [{"id": len(annotations) + n, **a} for n, a in enumerate(found, start=1)]
    categories = [{"id": c.category_id, "name": c.name} for c in classes().values()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def stop_at(iteration: int, monkeypatch) -> None:
    original = trainer.SeedEveryIteration.before_step

    def stop(hook):
        if hook.trainer.iter == iteration:
            raise KeyboardInterrupt
        original(hook)

    monkeypatch.setattr(trainer.SeedEveryIteration, "before_step", stop)
