"""detectron2 settings that it lacks or cannot use are found before any training."""

import copy

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY, build_model
from parameters import PARAMS, write_params

from opmask.errors import UserError
from opmask.model.config import add_opmask_config, paper_config
from opmask.model.roi_heads import PriorMaskHead
from pipeline import plan
from study.spec.overrides import check_models, check_overrides

FEW = {"scale": "smoke", "runs": ["opmask-R50-voc"]}


def with_setting(key: str, value: object, phase: int | None = None) -> dict:
    """Of scale `smoke`, or of a phase of its warm start."""
    params = copy.deepcopy(PARAMS) | FEW
    scale = params["scales"]["smoke"]
    where = scale["config"] if phase is None else scale["warm_start"]["R50"]["phases"][phase]
    where[key] = value
    return params


@pytest.mark.parametrize(
    "scale",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "smoke")) for name in PARAMS["scales"]],
)
def test_the_committed_scales_are_good(scale):
    params = {**PARAMS, "scale": scale, "runs": [*PARAMS["runs"], "opmask-lite0-voc"]}
    check_overrides(params)
    check_models(params)


CONFIG = "^scales/smoke.yaml: config."


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.FPN.NROM", "BN", "MODEL.FPN.NROM: detectron2 has no such key; .*'MODEL.FPN.NORM'"),
        ("MODEL.OPMASK.BOX_CONV_DIM", [1], "has no such key; did you mean .*OPMASK.BOX_CONV_DIMS'"),
        ("MODEL.FPN", 1, "MODEL.FPN: detectron2 has no such key"),
        ("SOLVER.BASE_LR", 1, "1 is not a number with a decimal point, as is 0.001"),
        ("MODEL.RPN.BATCH_SIZE_PER_IMAGE", True, "true is not a whole number, as is 256"),
        ("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 64.0, "64.0 is not a whole number, as is 256"),
        ("MODEL.FPN.NORM", None, "null is not text"),
        ("MODEL.FPN.NORM", "3", "3 is not text"),  # detectron2 reads Python in texts
        ("INPUT.MIN_SIZE_TRAIN", 160, "160 is not a list"),
        ("INPUT.MIN_SIZE_TRAIN", ["a"], "INPUT.MIN_SIZE_TRAIN: .'a'. is not a list, as is .800"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", [24], "SIZES: .24. is not a list, as is"),
    ],
)
def test_keys_and_types_are_detectron2s(key, value, message):
    with pytest.raises(UserError, match=CONFIG + key) as caught:
        check_overrides(with_setting(key, value))
    assert caught.match(message)
    with pytest.raises(UserError, match="warm_start.R50.phases.1." + key):
        check_overrides(with_setting(key, value, phase=1))


def with_method(**changes: object) -> dict:
    params = copy.deepcopy(PARAMS) | FEW
    params["methods"]["opmask"] |= changes
    return params


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_head": "PiorMaskHead"}, "mask_head: 'PiorMaskHead' is .*did you mean 'PriorMask"),
        # detectron2's own would learn from RoIs without a mask
        ({"mask_head": "MaskRCNNConvUpsampleHead"}, "is unknown; there are none, PriorMaskHead"),
        ({"config": {"MODEL.FPN.NROM": "BN"}}, "config.MODEL.FPN.NROM: .*'MODEL.FPN.NORM'"),
        ({"config": {"MODEL.FPN.NORM": None}}, "config.MODEL.FPN.NORM: null is not text"),
    ],
)
@pytest.mark.parametrize("scale", ["smoke", "coco"])
def test_a_method_names_registered_heads_and_settings(changes, message, scale):
    with pytest.raises(UserError, match="^paper.yaml: methods.opmask.") as caught:
        plan.check_models(with_method(**changes) | {"scale": scale})
    assert caught.match(message)


def test_a_registered_mask_head_is_a_row_of_params(monkeypatch):
    """A method of one's own: its head by name, its settings before the scale's."""

    class DeeperMaskHead(PriorMaskHead):
        pass

    monkeypatch.setitem(ROI_MASK_HEAD_REGISTRY._obj_map, "DeeperMaskHead", DeeperMaskHead)
    config = {"MODEL.ROI_BOX_HEAD.NORM": "GN", "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 10}
    params = with_method(mask_head="DeeperMaskHead", config=config)
    plan.check_models(params)
    scale = {"MODEL.ROI_BOX_HEAD.NORM": "BN"}
    method = params["methods"]["opmask"]
    cfg = paper_config(
        method=method, backbone={"resnet": 50}, supervised=[0], num_classes=2, overrides=scale
    )
    assert cfg.MODEL.ROI_BOX_HEAD.NORM == "BN"
    assert cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION == 10
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        assert type(build_model(cfg).roi_heads.mask_head) is DeeperMaskHead


def test_what_detectron2_takes_is_taken():
    """Its own `merge_from_list` is the reference."""
    cfg = get_cfg()
    add_opmask_config(cfg)
    for key, value in {
        "INPUT.MIN_SIZE_TRAIN": [160, 192],
        "MODEL.RPN.BBOX_REG_WEIGHTS": [1, 1, 2.0, 2],
        "MODEL.OPMASK.BOX_CONV_DIMS": [],
        "SOLVER.WEIGHT_DECAY_BIAS": 0.5,
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": "True",
    }.items():
        cfg.merge_from_list([key, value])
        check_overrides(with_setting(key, value))


@pytest.mark.parametrize(
    ("key", "value", "phase", "message"),
    [
        ("MODEL.ROI_MASK_HEAD.NORM", "BNN", None, "config: opmask-R50: cannot be built .*'BNN'"),
        ("MODEL.RPN.IN_FEATURES", ["p9"], None, "config: opmask-R50: cannot be built .*'p9'"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "valu", None, "'valu' is not a valid"),
        ("MODEL.META_ARCHITECTURE", "CropClass", 0, "warm_start.R50.phases.0: cannot .*CropClass"),
        ("SOLVER.LR_SCHEDULER_NAME", "WarmupCos", 1, "phases.1: cannot .*scheduler: WarmupCos"),
    ],
)
def test_values_are_tried_on_models_without_values(key, value, phase, message):
    params = with_setting(key, value, phase)
    check_overrides(params)
    before = torch.get_default_device()
    with pytest.raises(UserError, match=message) as caught:
        check_models(params)
    assert len(str(caught.value).splitlines()) == 1
    assert torch.get_default_device() == before


def test_stage_plan_refuses_before_it_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    params = with_setting("MODEL.ROI_MASK_HEAD.NROM", "BN")
    write_params(params)
    with pytest.raises(SystemExit) as ending:
        plan.run([])
    assert ending.value.code == 2
    assert "did you mean 'MODEL.ROI_MASK_HEAD.NORM'?" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"params.yaml", "paper.yaml", "scales"}
    params["scale"] = "coco"  # a typing error of a timm model is one too, with no override at all
    params["backbones"]["tiny"] = {"timm": "convnext_tinny"}
    with pytest.raises(UserError, match="timm has no model 'convnext_tinny'"):
        plan.check_models({**params, "runs": ["opmask-tiny-voc"]})
