"""Deep-MARC: a deep, thin hourglass as mask head, meant to be taught on ground-truth boxes alone.

Birodkar et al., *The surprising impact of mask-head architecture on novel class segmentation*
(ICCV 2021), after the authors' code (tensorflow/models, `official/projects/deepmac_maskrcnn`,
Apache-2.0), of which nothing is taken over.

Faithful: the hourglasses of 20, 52 and 100 layers with their widths, blocks, strides and
projections; features of 32x32, masks of 64x64; deconvolution, normalisation, ReLU, 1x1; no further
loss. That masks are learned on ground-truth boxes is the method's other half: `mask_rois: gt`, and
`MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION: 32`, are for the method's entry to say.
Adapted: the base's box head, schedule and images (theirs: 1024 pixels, batches of 64); the width is
a quarter of `CONV_DIM`, theirs where it is 256; weights start by He's rule; batch normalisation as
the base's (theirs keeps 0.1 of the running statistics at each step, which torch calls 0.9); on
grids of other sizes a level is resized to that which it is added to.
Unconfirmed: the weight of the mask loss, 1 here; AP50 and the rest beside the published AP.
"""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor, nn
from torch.nn import functional as F

from opmask.errors import UserError
from opmask.model.roi_heads import PriorMaskHead

# By depth: channels of each level, of the mask head's width, and residual blocks there.
HOURGLASSES = {
    20: ((2, 2, 3), (1, 2, 2)),
    52: ((2, 2, 3, 3, 3, 4), (2, 2, 2, 2, 2, 4)),
    100: ((2, 2, 3, 3, 3, 4), (4, 4, 4, 4, 4, 8)),
}


def add_config(cfg: CfgNode) -> None:
    """Add the keys `MODEL.DEEPMARC`, with the paper's values."""
    cfg.MODEL.DEEPMARC = CfgNode()
    # Of the hourglass, one of `HOURGLASSES`.
    cfg.MODEL.DEEPMARC.DEPTH = 52


def convolution(inputs: int, outputs: int, norm: str, size: int = 3, stride: int = 1) -> Conv2d:
    """One that keeps the grid, but for its stride, and is normalised by `norm`, "" for not."""
    layer = Conv2d(
        inputs, outputs, size, stride=stride, padding=size // 2, bias=not norm,
        norm=get_norm(norm, outputs),
    )  # fmt: skip
    c2_msra_fill(layer)
    return layer


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut, 1x1 where width or grid change; ReLU after the sum."""

    def __init__(self, inputs: int, outputs: int, norm: str, stride: int = 1):
        super().__init__()
        self.conv1 = convolution(inputs, outputs, norm, stride=stride)
        self.conv2 = convolution(outputs, outputs, norm)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = convolution(inputs, outputs, norm, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


def residuals(inputs: int, outputs: Sequence[int], norm: str, stride: int = 1) -> nn.Sequential:
    """A block for each of the widths `outputs`, the first of which has the stride."""
    widths = [inputs, *outputs]
    strides = [stride] + [1] * (len(outputs) - 1)
    pairs = zip(widths, outputs, strides, strict=False)
    return nn.Sequential(*(Residual(a, b, norm, step) for a, b, step in pairs))


class Hourglass(nn.Module):
    """A level and, at half its grid, those within: `(N, C, H, W)` to the same, C the first width.

    Args:
        widths: channels of this level and each within, the innermost last.
        blocks: as many numbers of residual blocks.
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int], norm: str):
        super().__init__()
        (outer, inner, *_), (count, innermost, *deeper) = widths, blocks
        self.skip = residuals(outer, [outer] * count, norm)
        self.down = residuals(outer, [inner] * count, norm, stride=2)
        self.within: nn.Module = (
            Hourglass(widths[1:], blocks[1:], norm)
            if deeper
            else residuals(inner, [inner] * innermost, norm)
        )
        self.up = residuals(inner, [inner] * (count - 1) + [outer], norm)

    def forward(self, x: Tensor) -> Tensor:
        skip, coarse = self.skip(x), self.up(self.within(self.down(x)))
        return skip + F.interpolate(coarse, size=skip.shape[2:])  # nearest


@ROI_MASK_HEAD_REGISTRY.register()
class HourglassMaskHead(PriorMaskHead):
    """The base's mask head with an hourglass in place of its 3x3 convolutions.

    Raises:
        UserError: `MODEL.DEEPMARC.DEPTH` is none of `HOURGLASSES`.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        depth: int,
        conv_dims: Sequence[int],
        conv_norm: str,
        **kwargs: Any,
    ):
        if depth not in HOURGLASSES:
            known = ", ".join(map(str, HOURGLASSES))
            raise UserError(f"MODEL.DEEPMARC.DEPTH: {depth} is unknown; it is one of {known}")
        factors, blocks = HOURGLASSES[depth]
        width = conv_dims[-1] // 4
        widths = [width * factor for factor in factors]
        super().__init__(ShapeSpec(channels=widths[0]), conv_dims=[width], **kwargs)
        self.trunk = nn.Sequential(
            convolution(input_shape.channels, width, conv_norm),
            nn.ReLU(),
            Residual(width, widths[0], conv_norm),
            Hourglass(widths, blocks, conv_norm),
            convolution(widths[0], widths[0], conv_norm),
            nn.ReLU(),
        )
        self.deconv_norm = get_norm(conv_norm, width)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        return {**super().from_config(cfg, input_shape), "depth": cfg.MODEL.DEEPMARC.DEPTH}

    def layers(self, x: Tensor) -> Tensor:
        """`(N, C, H, W)` features -> `(N, 1, 2H, 2W)` logits."""
        if self.training and len(x) == 1:
            # Of one value, as a RoI has at the bottom, torch takes no statistics; of two equal ones
            # they are what they would be.
            return self._logits(x.expand(2, -1, -1, -1)).mean(0, keepdim=True)
        return self._logits(x)

    def _logits(self, x: Tensor) -> Tensor:
        x = self.deconv(self.trunk(x))
        if self.deconv_norm is not None:
            x = self.deconv_norm(x)
        return self.predictor(self.deconv_relu(x))
