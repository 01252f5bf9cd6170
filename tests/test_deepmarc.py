"""Deep-MARC's hourglass against its published size, loops in numpy, and on the common base."""

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from rival_checks import (
    ddp_gets_every_gradient,
    gradients,
    layout_does_not_matter,
    losses_of,
    masks_of_given_boxes_stand_alone,
    novel_masks_do_not_matter,
    tiny_cfg,
    without_objects,
)
from test_method import build
from test_method import targets as all_targets
from test_over_ranks import alone  # noqa: F401 - a fixture
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from opmask.errors import UserError
from opmask.model.precision import use_precision

METHOD = {
    "components": "opmask.rivals.deepmarc",
    "mask_head": "HourglassMaskHead",
    "mask_rois": "gt",
    "config": {"MODEL.DEEPMARC.DEPTH": 20, "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 32},
}
PRIOR = METHOD | {"prior": True, "mask_gradients": True}
DEEP = {"DEEPMARC__DEPTH": "52"}
GRID = "ROI_MASK_HEAD__POOLER_RESOLUTION"


def deepmarc(method: dict = METHOD, **changes: str) -> nn.Module:
    return build(method, **changes).train()


def head(depth: int, width: int = 64, norm: str = "BN", channels: int = 256) -> nn.Module:
    from opmask.rivals.deepmarc import HourglassMaskHead

    return HourglassMaskHead(
        ShapeSpec(channels=channels), depth=depth, conv_dims=[4 * width], conv_norm=norm,
        num_classes=1,
    )  # fmt: skip


# Millions of parameters, and 10⁹ products of a RoI.
SIZES = {20: (5.68, 1.41), 52: (23.6, 1.95), 100: (47.4, 3.35)}


@pytest.mark.parametrize("depth", SIZES)
def test_it_is_as_large_as_the_original(depth):
    with torch.device("meta"):
        model, x = head(depth), torch.empty(1, 256, 32, 32)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        assert model.eval().layers(x).shape == (1, 1, 64, 64)
    parameters, products = SIZES[depth]
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert round(count, 1 if parameters > 10 else 2) == parameters
    assert round(counted.get_total_flops() / 2e9, 2) == products


def test_the_convolutions_of_20_layers_by_hand():
    """In, out, kernel's side, stride, output's side; channels in widths."""
    model, seen = head(20, width=1, channels=5), []

    def note(layer: nn.Conv2d, _: object, out: torch.Tensor) -> None:
        sizes = layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0]
        seen.append((*sizes, out.shape[2]))

    for layer in model.trunk.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(note)
    model.eval().layers(torch.randn(1, 5, 32, 32))
    outer_skip = [(2, 2, 3, 1, 32)] * 2
    outer_down = [(2, 2, 3, 2, 16), (2, 2, 3, 1, 16), (2, 2, 1, 2, 16)]
    inner_skip = [(2, 2, 3, 1, 16)] * 4
    inner_down = [(2, 3, 3, 2, 8), (3, 3, 3, 1, 8), (2, 3, 1, 2, 8), *[(3, 3, 3, 1, 8)] * 2]
    bottom = [(3, 3, 3, 1, 8)] * 4
    inner_up = [*[(3, 3, 3, 1, 8)] * 2, (3, 2, 3, 1, 8), (2, 2, 3, 1, 8), (3, 2, 1, 1, 8)]
    outer_up = [(2, 2, 3, 1, 16)] * 2
    assert seen == [
        (5, 1, 3, 1, 32),
        *[(1, 2, 3, 1, 32), (2, 2, 3, 1, 32), (1, 2, 1, 1, 32)],
        *(outer_skip + outer_down + inner_skip + inner_down + bottom + inner_up + outer_up),
        (2, 2, 3, 1, 32),
    ]


class Loops:
    """The original's equations with numpy; `weights` are read in the order of the layers above."""

    def __init__(self, trunk: nn.Module):
        self.layers = (layer for layer in trunk.modules() if isinstance(layer, nn.Conv2d))

    def convolve(self, x: np.ndarray, stride: int = 1) -> np.ndarray:
        """And normalise, by the batch's statistics."""
        layer = next(self.layers)
        weight = layer.weight.detach().numpy()
        side = weight.shape[2]
        edge = side // 2
        x = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
        rows, columns = (range(0, n - side + 1, stride) for n in x.shape[2:])
        out = np.empty((len(x), len(weight), len(rows), len(columns)))
        for i, y in enumerate(rows):
            for j, z in enumerate(columns):
                window = x[:, None, :, y : y + side, z : z + side]
                out[:, :, i, j] = (window * weight).sum((2, 3, 4))
        mean, var = (f((0, 2, 3))[:, None, None] for f in (out.mean, out.var))
        gain, shift = (p.detach().numpy()[:, None, None] for p in layer.norm.parameters())
        return (out - mean) / np.sqrt(var + 1e-5) * gain + shift

    def block(self, x: np.ndarray, stride: int = 1, *, project: bool = False) -> np.ndarray:
        y = self.convolve(np.maximum(self.convolve(x, stride), 0))
        return np.maximum(y + (self.convolve(x, stride) if project else x), 0)

    def trunk_of_20_layers(self, x: np.ndarray) -> np.ndarray:
        x = self.block(np.maximum(self.convolve(x), 0), project=True)
        outer = self.block(x)
        x = self.block(x, 2, project=True)
        inner = self.block(self.block(x))
        x = self.block(self.block(x, 2, project=True))
        x = self.block(self.block(x))  # the bottom
        x = self.block(self.block(x), project=True)
        x = inner + x.repeat(2, 2).repeat(2, 3)
        x = self.block(x)
        x = outer + x.repeat(2, 2).repeat(2, 3)
        return np.maximum(self.convolve(x), 0)


def test_the_trunk_equals_loops():
    torch.manual_seed(0)
    model = head(20, width=2, channels=3).double().train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected = Loops(model.trunk).trunk_of_20_layers(x.numpy())
    np.testing.assert_allclose(model.trunk(x).detach(), expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_the_last_layers_equal_a_loop():
    model = head(20, width=2, channels=3).eval()
    model.deconv_norm.running_mean.normal_()
    x = torch.randn(1, 3, 8, 8)
    features, found = model.trunk(x)[0], model.layers(x)[0, 0]
    for y, z in ((0, 0), (5, 12), (15, 7)):
        weight = model.deconv.weight[:, :, y % 2, z % 2]
        hidden = features[:, y // 2, z // 2] @ weight + model.deconv.bias
        hidden = (hidden - model.deconv_norm.running_mean) / np.sqrt(1 + 1e-5)
        logit = hidden.relu() @ model.predictor.weight[0, :, 0, 0] + model.predictor.bias[0]
        torch.testing.assert_close(found[y, z], logit, rtol=1e-4, atol=1e-6)


def test_other_depths_are_refused():
    with pytest.raises(UserError, match=r"DEEPMARC.DEPTH: 51 is unknown; it is one of 20, 52, 100"):
        deepmarc(DEEPMARC__DEPTH="51")


def test_widths_are_the_configurations():
    heads = deepmarc(**DEEP, ROI_MASK_HEAD__CONV_DIM="20")
    widths = [5, 10, 10, 15, 15, 15, 20]
    trunk, found = heads.mask_head.trunk, []
    found.append(trunk[0].out_channels)
    level = trunk[3]
    while hasattr(level, "skip"):
        found.append(level.skip[0].conv1.out_channels)
        level = level.within
    assert [*found, level[0].conv1.out_channels] == widths
    assert heads.mask_head.predictor.in_channels == 5


@pytest.mark.parametrize("depth", ["20", "52"])
@pytest.mark.parametrize("grid", ["7", "14", "32"])
def test_the_grid_is_the_configurations(depth, grid):
    heads, seen = deepmarc(**{GRID: grid}, DEEPMARC__DEPTH=depth), {}
    heads.mask_head.predictor.register_forward_hook(lambda *args: seen.update(y=args[-1]))
    assert losses_of(heads)["loss_mask"].isfinite()
    assert seen["y"].shape == (12, 1, 2 * int(grid), 2 * int(grid))  # six objects an image


@pytest.mark.parametrize("depth", [20, 52])
def test_a_roi_may_be_alone(depth):
    """Of 52 layers the innermost sees one pixel, of which torch refuses to take the variance."""
    torch.manual_seed(0)
    model, x = head(depth, width=2, channels=3).double().train(), torch.randn(1, 3, 32, 32).double()
    logits = model.layers(x)
    logits.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert logits.shape == (1, 1, 64, 64)
    if depth == 52:
        with pytest.raises(ValueError, match="more than 1 value"):
            model._logits(x)
    else:
        torch.testing.assert_close(logits, model._logits(x))


@pytest.mark.parametrize(
    "method",
    [METHOD, PRIOR, PRIOR | {"prior_combined": "concatenate"}, PRIOR | {"mask_rois": "proposals"}],
)
def test_masks_teach_the_whole_head_and_the_box_head_through_a_prior_alone(method):
    found = gradients(heads := deepmarc(method), losses_of(heads)["loss_mask"])
    assert all(found[name] > 0 for name in found if name.startswith("mask_head"))
    convolutions = [found[f"box_head.conv{k}.weight"] for k in range(1, 5)]
    assert all(convolutions) if "prior" in method else not any(convolutions)
    assert not any(found[name] for name in found if name.startswith("box_predictor"))


def test_novel_masks_and_memory_layout_do_not_matter():
    novel_masks_do_not_matter(deepmarc())
    layout_does_not_matter(deepmarc())


@pytest.mark.parametrize("agnostic", ["True", "False"])
@pytest.mark.parametrize("method", [METHOD, PRIOR])
def test_nothing_supervised_teaches_nothing(method, agnostic):
    heads = deepmarc(method, ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG=agnostic)
    losses = losses_of(heads, without_objects())
    assert losses["loss_mask"] == 0
    assert all(value is not None for value in gradients(heads, sum(losses.values())).values())


def test_no_object_at_all_teaches_nothing():
    heads = deepmarc()
    nothing = [image[:0] for image in all_targets()]
    losses = losses_of(heads, nothing)
    assert losses["loss_mask"] == 0
    assert all(value is not None for value in gradients(heads, sum(losses.values())).values())
    assert all(buffer.isfinite().all() for buffer in heads.mask_head.buffers())


def test_bf16_is_near_float32():
    heads = deepmarc(PRIOR)
    expected = losses_of(heads)
    use_precision(nn.ModuleDict({"roi_heads": heads}), "bf16")
    for name, loss in losses_of(heads).items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected[name], rtol=0.03, atol=0)


def test_masks_in_oracle_boxes_are_of_their_class():
    cfg = tiny_cfg(PRIOR, MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0)
    masks = masks_of_given_boxes_stand_alone(cfg, fit_norms=True)
    assert masks.shape == (6, 64, 64) and masks.std() > 0.1
    assert (masks[0] - masks[2]).abs().max() > 1e-3  # of one box


def test_no_detection_has_no_mask():
    cfg = tiny_cfg(METHOD, MODEL__ROI_HEADS__SCORE_THRESH_TEST=1.0)
    image = {"image": torch.zeros(3, 64, 64), "height": 64, "width": 64}
    with torch.no_grad():
        (found,) = build_model(cfg).eval()([image])
    assert found["instances"].pred_masks.shape == (0, 64, 64)


def test_ddp_gets_every_gradient_it_waits_for(alone, tmp_path):  # noqa: F811
    ddp_gets_every_gradient(tiny_cfg(METHOD, MODEL__DEEPMARC__DEPTH=52), tmp_path)
