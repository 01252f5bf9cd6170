"""What must hold of every method that brings components of its own, on tiny models."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage
from test_method import SIZE, SUPERVISED, inputs
from test_method import targets as all_targets
from test_over_ranks import weights_after
from tiny import IDS, OVERRIDES, write_images

from opmask.evaluation.inference import detect, load_model
from opmask.evaluation.oracle import measure_in_true_boxes, segment
from opmask.model.config import load_config, paper_config
from opmask.model.precision import use_precision
from opmask.training.hardware import Hardware
from opmask.training.trainer import train


def reference(name: str) -> dict[str, torch.Tensor]:
    """The original's numbers, `data/<name>.npz`."""
    with np.load(Path(__file__).parent / "data" / f"{name}.npz") as file:
        return {key: torch.from_numpy(value) for key, value in file.items()}


def tiny_cfg(method: dict, **changes: object) -> CfgNode:
    """`method` on four classes, two of them supervised; `changes` with `__` for dots."""
    overrides = {**OVERRIDES, **{key.replace("__", "."): value for key, value in changes.items()}}
    cfg = paper_config(
        method=method, backbone={"resnet": 50}, supervised=[0, 1], num_classes=4,
        overrides=overrides,
    )  # fmt: skip
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SEED = 4, (3,), 7
    return cfg


def losses_of(
    heads: torch.nn.Module,
    targets: list[Instances] | None = None,
    features: dict[str, torch.Tensor] | None = None,
    iteration: int = 1,
) -> dict[str, torch.Tensor]:
    """Of two noisy images, in training."""
    maps, proposals = inputs()
    pixels = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(1)  # RoI sampling
    with EventStorage(iteration):
        _, losses = heads(
            ImageList(pixels, [SIZE] * 2), features or maps, proposals, targets or all_targets()
        )
    return losses


def gradients(heads: torch.nn.Module, loss: torch.Tensor) -> dict[str, float | None]:
    """The largest of each parameter; None where the loss has none."""
    heads.zero_grad()
    loss.backward()
    return {
        name: None if p.grad is None else p.grad.abs().max().item()
        for name, p in heads.named_parameters()
    }


def novel_masks_do_not_matter(heads: torch.nn.Module) -> None:
    def elsewhere(image: int, c: int) -> list | None:
        return None if c in SUPERVISED else [np.array([0.0, 0, 3 + image, 0, c, 50])]

    other = copy.deepcopy(heads)
    before, after = losses_of(heads), losses_of(other, all_targets(elsewhere))
    sum(before.values()).backward()
    sum(after.values()).backward()
    for (name, p), q in zip(heads.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), name


def layout_does_not_matter(heads: torch.nn.Module) -> None:
    other = copy.deepcopy(heads).to(memory_format=torch.channels_last)
    features = {
        name: maps.contiguous(memory_format=torch.channels_last)
        for name, maps in inputs()[0].items()
    }
    before, after = losses_of(heads), losses_of(other, features=features)
    for name, loss in before.items():
        torch.testing.assert_close(after[name], loss, rtol=1e-4, atol=1e-6)


def bf16_is_near_float32(
    heads: torch.nn.Module, layers: Sequence[torch.nn.Module], dtypes: Sequence[torch.dtype]
) -> None:
    """Losses in bf16 are near those in float32; `layers` compute in `dtypes`."""
    expected = losses_of(heads)
    use_precision(torch.nn.ModuleDict({"roi_heads": heads}), "bf16")
    seen: list[torch.dtype] = []
    for layer in layers:
        layer.register_forward_hook(lambda *args: seen.append(args[-1].dtype))
    maps = {name: value.bfloat16() for name, value in inputs()[0].items()}
    found = losses_of(heads, features=maps)
    assert seen == list(dtypes)
    for name, loss in found.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected[name], rtol=0.03, atol=0)


def without_objects() -> list[Instances]:
    """Targets as `opmask.data.loader` makes them: one image has no object, one no supervised."""
    first, _ = all_targets()
    novel = first[torch.arange(len(SUPERVISED), 6)]
    classes = torch.zeros(0, dtype=torch.int64)
    return [novel, Instances(SIZE, gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=classes)]


def masks_of_given_boxes_stand_alone(cfg: CfgNode, *, fit_norms: bool = False) -> torch.Tensor:
    """The `(2 N, 28, 28)` masks in oracle boxes, each as if its box were the only one."""
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight)
    torch.nn.init.normal_(model.roi_heads.mask_head.predictor.weight)
    pixels = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    image = {"image": pixels, "height": 64, "width": 64}
    if fit_norms:  # else residual sums explode, and every mask is saturated
        norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
        for layer in norms:
            layer.train().momentum = 1.0
        model([image])
        model.eval()
    boxes = torch.tensor([[3.0, 5, 40, 60], [10, 10, 30, 20], [3, 5, 40, 60]])
    classes = torch.tensor([0, 1, 3])
    (together,), _ = segment(model, [image], [boxes], [classes])
    for k in range(3):
        (alone,), _ = segment(model, [image], [boxes[[k]]], [classes[[k]]])
        torch.testing.assert_close(alone, together[[k, k + 3]], rtol=1e-3, atol=1e-4)
    (found,) = model([image])
    assert found["instances"].pred_masks.shape[1:] == (64, 64)
    return together


def ddp_gets_every_gradient(cfg: CfgNode, folder: Path) -> None:
    """The second step fails if a parameter had none. The test needs the fixture `alone`."""
    data = write_images(folder / "images")
    one, ddp = (weights_after(cfg, data, 2, distributed=shared) for shared in (False, True))
    assert all(torch.equal(one[name], ddp[name]) for name in one)


def trains_and_detects(cfg: CfgNode, folder: Path) -> None:
    """As a run does, in bf16: trained, loaded by what it left, judged in its own and true boxes."""
    cfg.SOLVER.PRECISION, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = "bf16", 0.0
    data = write_images(folder / "images", 2)
    final = train(cfg, data, folder / "work", Hardware(), description="test")
    loaded = load_config(folder / "work" / "config.yaml")
    loaded.MODEL.DEVICE = "cpu"
    model, known = load_model(loaded, final), json.loads(data.annotations.read_text())
    found = detect(model, loaded, known["images"], data.images, IDS)
    assert found and all("segmentation" in one for one in found)
    table = measure_in_true_boxes(model, loaded, known, data.images, IDS)
    assert len(table) == 8 and table["iou"].notna().all()
