"""Whole trainings of every other system: no mask of a novel class reaches them, they resume, some
processes or all may lack masks, and what they leave predicts."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from detectron2.utils import comm
from parameters import PARAMS
from pycocotools import mask as mask_util
from rival_checks import tiny_cfg
from test_ranks import TWO, _forked, keep_weights, kept, same, train  # noqa: F401 - a fixture
from tiny import CLASSES, IDS, write_images

import opmask
from opmask import predict
from opmask.model.roi_heads import OPMaskROIHeads
from opmask.training import trainer
from opmask.training.hardware import Hardware

METHODS = {name: one for name, one in PARAMS["methods"].items() if "components" in one}
# Besides the box head: what learns where no object has a mask.
TAUGHT_BY_BOXES = {
    "maskrcnn_boxinst": {"mask_head"},
    "opmask_boxinst": {"mask_head"},
    "opmask_gt_boxinst": {"mask_head"},
    "shapeprop": {"shapeprop"},
    "shapeprop_opmask": {"shapeprop"},
    "contrastmask": {"contrastive_head"},
}

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("name", METHODS)]


def config(name: str, **changes) -> CfgNode:
    """Narrow, for Mask^X's MLP; a low rate of learning leaves masks of both in and out."""
    narrow = {"MODEL__ROI_MASK_HEAD__CONV_DIM": 8, "SOLVER__BASE_LR": 0.002}
    cfg = tiny_cfg(METHODS[name], MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0, **{**narrow, **changes})
    cfg.MODEL.OPMASK.CLASS_NAMES, cfg.MODEL.OPMASK.CATEGORY_IDS = list(CLASSES), list(IDS)
    return cfg


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), 4)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """The folder in which a method was trained, by its name."""

    @cache
    def folder(name: str) -> Path:
        work = tmp_path_factory.mktemp(name)
        train(data, work, Hardware(), config(name))
        return work

    return folder


def edited(data, folder: Path, edit: Callable[[dict], object]):
    """`data` with every annotation edited in place."""
    content = json.loads(data.annotations.read_text())
    for annotation in content["annotations"]:
        edit(annotation)
    other = folder / "other.json"
    other.write_text(json.dumps(content))
    return replace(data, annotations=other)


def test_interrupted_and_with_other_masks_of_novel_classes_it_ends_alike(
    name, data, trained, tmp_path, monkeypatch
):
    def change(annotation):
        if annotation["category_id"] not in data.supervised_ids:
            annotation["segmentation"] = [[0.0, 0.0, 9.0, 0.0, 0.0, 9.0]]
            if annotation["id"] % 2:
                del annotation["segmentation"]

    changed, cfg = edited(data, tmp_path, change), config(name)
    expected = torch.load(trained(name) / "model_final.pth", weights_only=True)["model"]
    steps, step = [], SimpleTrainer.run_step

    def interrupted(self):
        steps.append(self.iter)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGINT)
        step(self)

    monkeypatch.setattr(SimpleTrainer, "run_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(changed, tmp_path / "work", Hardware(), cfg)
    found = train(changed, tmp_path / "work", Hardware(), cfg)
    assert steps == [0, 1, 2, 3]
    assert same(found, expected)


def trained_by_two(name: str, data, folder: Path, monkeypatch) -> set[str]:
    """Which of the RoI heads' parts two processes taught in two steps."""
    keep_weights(monkeypatch, folder)
    cfg = config(name, SOLVER__WEIGHT_DECAY=0.0)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 2, ()
    final = train(data, folder / "work", TWO, cfg)
    one, other = kept(folder)
    assert same(one, final) and same(other, final)
    assert all(value.isfinite().all() for value in final.values())
    torch.manual_seed(cfg.SEED)
    heads = build_model(cfg).roi_heads
    return {
        part.split(".")[0]
        for part, start in heads.named_parameters()
        if not torch.equal(start, final[f"roi_heads.{part}"])
    }


def test_where_some_have_masks_a_process_may_see_none(name, data, tmp_path, monkeypatch):
    has_mask = OPMaskROIHeads._has_mask

    def of_the_first(heads, image):
        return has_mask(heads, image) & (comm.get_rank() == 0)

    monkeypatch.setattr(OPMaskROIHeads, "_has_mask", of_the_first)
    some = edited(data, tmp_path, lambda one: one["id"] % 4 == 1 and one.pop("segmentation"))
    assert "mask_head" in trained_by_two(name, some, tmp_path, monkeypatch)


def test_boxes_alone_teach_what_learns_from_boxes(name, data, tmp_path, monkeypatch):
    """The trainer refuses data without any mask, as most methods' mask heads would stay as they
    are made."""
    monkeypatch.setattr(trainer, "supervised_mask_count", lambda *_: 0)
    none = edited(data, tmp_path, lambda one: one.pop("segmentation"))
    taught = trained_by_two(name, none, tmp_path, monkeypatch)
    assert taught == {"box_head", "box_predictor"} | TAUGHT_BY_BOXES.get(name, set())


def test_what_it_leaves_predicts(name, data, trained, tmp_path):
    path = data.images / "2.png"
    found = opmask.load(trained(name), threshold=0)(path)
    assert found.masks.shape == (len(found), 80, 64) and found.masks.dtype == bool
    assert len(found) > 1 and found.masks.any()
    for box, mask in zip(found.boxes, found.masks, strict=True):
        left, top, right, bottom = np.r_[np.floor(box[:2]), np.ceil(box[2:])].astype(int)
        assert mask.sum() == mask[top:bottom, left:right].sum()  # none beyond its box
    predict.run([str(path), "--run", str(trained(name)), "--out", str(tmp_path), "--threshold", "0",
                 "--format", "coco"])  # fmt: skip
    written = json.loads((tmp_path / "detections.json").read_text())
    masks = np.array([mask_util.decode(one["segmentation"]) for one in written], bool)
    assert np.array_equal(masks, found.masks)
