"""At `coco` scale the configuration is the paper's: section 4.1, appendix A, the authors' code."""

from pathlib import Path

import pytest
import torch
import yaml
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer

from opmask.data.coco import ImageSet, Manifest
from opmask.data.splits import COCO_CLASSES, VOC_CLASSES
from opmask.errors import UserError
from opmask.model.config import load_config
from opmask.training.warm_start import deepen, jitter
from study.runs import jobs
from study.spec.params import load_params
from study.spec.run import parse_run, specification

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
NOWHERE = ImageSet(Path("annotations.json"), Path("images"), {})
CATEGORIES = [{"id": k, "name": n} for k, n in enumerate(COCO_CLASSES, 1)]
COCO = Manifest("coco", CATEGORIES, NOWHERE, NOWHERE)


def config(name: str, scale: str = "coco", seed: int = 0):
    params = {**PARAMS, "scale": scale}
    cfg = jobs.run_config(specification(parse_run(name, seed, params), params), COCO, "")
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def test_input_and_optimisation():
    cfg = config("opmask-R101-voc", seed=3)
    assert cfg.INPUT.MIN_SIZE_TRAIN == (640, 672, 704, 736, 768, 800)
    assert (cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (
        1333,
        800,
        1333,
    )
    assert cfg.INPUT.RANDOM_FLIP == "horizontal"
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.MOMENTUM) == (16, 0.02, 0.9)
    assert (cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.WARMUP_METHOD) == (1000, "linear")
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.GAMMA) == (130000, (120000,), 0.1)
    clip = cfg.SOLVER.CLIP_GRADIENTS
    assert (clip.ENABLED, clip.CLIP_TYPE, clip.CLIP_VALUE) == (True, "value", 1.0)
    assert cfg.SOLVER.WEIGHT_DECAY_NORM == 0
    assert not cfg.TEST.PRECISE_BN.ENABLED
    assert cfg.MODEL.WEIGHTS == "detectron2://ImageNetPretrained/MSRA/R-101.pkl"
    assert cfg.SEED == 3


def test_learning_rate_over_the_schedule():
    cfg = config("opmask-R50-voc")
    optimizer = build_optimizer(cfg, torch.nn.Linear(1, 1))
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates = {}
    for iteration in range(120002):
        rates[iteration] = optimizer.param_groups[0]["lr"]
        scheduler.step()
    assert rates[0] == pytest.approx(0.02 * 0.001)
    assert rates[500] == pytest.approx(0.02 * (0.001 + 0.999 / 2), rel=1e-3)
    assert rates[1000] == rates[119999] == pytest.approx(0.02)
    assert rates[120000] == pytest.approx(0.002)


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("method", "mask_convs"), [("fasterrcnn", 0), ("maskrcnn", 4), ("maskrcnn7", 7), ("opmask", 7)]
)
@pytest.mark.parametrize(("backbone", "blocks"), [("R50", 6), ("R101", 23)])
def test_layers_and_parameter_counts(method, mask_convs, backbone, blocks):
    model = build_model(config(f"{method}-{backbone}-voc"))
    heads = model.roi_heads
    assert len(model.backbone.bottom_up.res4) == blocks
    shapes = [tuple(getattr(heads.box_head, f"conv{k}").weight.shape) for k in range(1, 5)]
    assert shapes == [(512, 256, 3, 3), (1024, 512, 3, 3), (1024, 1024, 3, 3), (1024, 1024, 3, 3)]
    assert round(parameters(heads.box_head) / 1e6, 1) == 24.8
    assert heads.box_predictor.cls_score.weight.shape == (81, 1024)
    assert heads.box_predictor.bbox_pred.weight.shape == (320, 1024)
    assert heads.mask_on == (mask_convs > 0)
    if mask_convs:
        # 3x3 convolutions with BN, deconvolution, one class-agnostic output
        convs = mask_convs * (256 * 256 * 9 + 2 * 256)
        assert parameters(heads.mask_head) == convs + 256 * 256 * 4 + 256 + 256 + 1
        assert heads.prior == (method == "opmask")
        assert {COCO_CLASSES[c] for c in heads.is_supervised.nonzero()} == set(VOC_CLASSES)


def test_supervised_classes_of_the_other_direction():
    cfg = config("opmask-R50-nonvoc")
    names = {COCO_CLASSES[c] for c in cfg.MODEL.OPMASK.SUPERVISED_CLASSES}
    assert names == set(COCO_CLASSES) - set(VOC_CLASSES)


def test_gradient_ablation_differs_in_one_key():
    on, off = config("opmask-R50-voc"), config("opmask_detached-R50-voc")
    assert (on.MODEL.OPMASK.PRIOR_GRADIENTS, off.MODEL.OPMASK.PRIOR_GRADIENTS) == (True, False)
    off.MODEL.OPMASK.PRIOR_GRADIENTS = True
    assert on == off


def test_deepened_weights_compute_the_same(tmp_path):
    torch.manual_seed(0)
    shallow, deep = config("opmask-R50-voc", "miniature"), config("opmask-R101-voc", "miniature")
    deep.MODEL.RESNETS.NORM = shallow.MODEL.RESNETS.NORM = "BN"
    deep.MODEL.BACKBONE.FREEZE_AT = shallow.MODEL.BACKBONE.FREEZE_AT = 0  # as a warm start trains
    model = build_model(shallow).eval()
    torch.save({"model": model.state_dict()}, tmp_path / "shallow.pth")
    path = deepen(tmp_path / "shallow.pth", deep, tmp_path / "deep.pth")
    deeper = build_model(deep).eval()
    deeper.load_state_dict(torch.load(path, weights_only=True)["model"])
    image = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        for name, expected in model.backbone(image).items():
            torch.testing.assert_close(deeper.backbone(image)[name], expected)


def test_jittered_boxes_still_cover_their_objects():
    from torchvision.ops import box_iou

    torch.manual_seed(0)
    boxes = torch.tensor([[10.0, 20.0, 50.0, 90.0]]).repeat(500, 1)
    moved = jitter(boxes)
    iou = box_iou(moved, boxes[:1])[:, 0]
    assert iou.min() > 0.4
    assert 0.6 < iou.mean() < 0.9
    assert (moved != boxes).any(dim=1).all()


def test_a_configuration_comes_back_as_it_was_left(tmp_path):
    cfg = config("opmask-R50-voc", "miniature")
    cfg.MODEL.OPMASK.CLASS_NAMES = ["None", "1", "(x,)"]
    (tmp_path / "config.yaml").write_text(cfg.dump())
    found = load_config(tmp_path / "config.yaml")
    assert yaml.safe_load(found.dump()) == yaml.safe_load(cfg.dump())
    with pytest.raises(AssertionError, match="Non-existent key"):
        found.merge_from_list(["MODEL.WEIGTHS", "x"])


def test_keys_of_other_versions_are_kept_and_lacking_ones_have_their_defaults(tmp_path):
    (tmp_path / "config.yaml").write_text("MODEL: {OPMASK: {PRIOR: false, FUTURE: 3}}")
    found = load_config(tmp_path / "config.yaml").MODEL.OPMASK
    assert (found.PRIOR, found.FUTURE, found.PRIOR_GRADIENTS) == (False, 3, True)


@pytest.mark.parametrize(
    "text",
    [
        'OUTPUT_DIR: !!python/object/apply:os.mkdir ["{}"]',
        'MODEL: {{WEIGHTS: !!python/object/apply:subprocess.run [[mkdir, "{}"]]}}',
        'MODEL: {{WEIGHTS: !!python/object/new:os.mkdir ["{}"]}}',
        "_BASE_: base.yaml",
        "MODEL: [",
        "- 1",
        "",
        "MODEL: 3",
        "\0",
    ],
)
def test_no_configuration_runs_anything(text, tmp_path):
    made = tmp_path / "made"
    base = f'OUTPUT_DIR: !!python/object/apply:os.mkdir ["{made}"]'
    (tmp_path / "base.yaml").write_text(base)
    (tmp_path / "config.yaml").write_text(text.format(made))
    with pytest.raises(UserError, match="config.yaml: is no configuration of a training"):
        load_config(tmp_path / "config.yaml")
    assert not made.exists()


def test_a_configuration_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.yaml: is no configuration"):
        load_config(tmp_path / "nowhere.yaml")
