"""Layers that CPUs compute several times as fast, with the same numbers to rounding.

RoIAlign's gradient: torchvision's backward scatters one sample after the other in one thread.
Bilinear sampling on a grid is separable, so a RoI's output is A_y X A_x^T and its gradient
A_y^T G A_x: two matrix products, four to five times faster on feature maps of small images.

The mask head's last two layers: a 2x2 deconvolution of stride 2 and a 1x1 convolution to one
channel are one matrix product a pixel. As convolutions their gradients take four times as long, a
sixth of a step at small scales.
"""

from typing import Any

import torch
from detectron2.layers import ROIAlign
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead
from torch import Tensor, nn
from torch.nn import functional as F

from opmask.model.precision import Float32ROIAlign


def use_separable_roi_align(model: nn.Module) -> None:
    """Replace the RoIAlign of every pooler in `model`, in place; its outputs do not change."""
    for level in model.modules():
        if isinstance(level, ROIAlign) and level.sampling_ratio > 0 and level.aligned:
            level.__class__ = SeparableROIAlign


class SeparableROIAlign(Float32ROIAlign):
    """The aligned `ROIAlign` with a fixed sampling ratio, differentiated separably."""

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        if input.device.type != "cpu" or not (torch.is_grad_enabled() and input.requires_grad):
            return super().forward(input, rois)
        size = tuple(self.output_size)
        args = (size, self.spatial_scale, self.sampling_ratio)
        return _ROIAlign.apply(input.float(), rois.float(), *args).to(input.dtype)


class _ROIAlign(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rois: Tensor, size: tuple[int, int], scale: float, ratio: int
    ) -> Tensor:
        ctx.save_for_backward(rois)
        ctx.arguments = (x.shape, size, scale, ratio)
        return torch.ops.torchvision.roi_align(x, rois, scale, *size, ratio, True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (rois,) = ctx.saved_tensors
        (images, channels, height, width), (h, w), scale, ratio = ctx.arguments
        x0, y0, x1, y1 = (rois[:, 1:] * scale - 0.5).unbind(1)
        rows = interpolation_matrix(y0, y1, h, height, ratio).transpose(1, 2)
        columns = interpolation_matrix(x0, x1, w, width, ratio).transpose(1, 2)
        grad = grad.permute(0, 2, 3, 1).reshape(-1, h, w * channels)
        grad = torch.bmm(rows, grad).view(-1, height, w, channels)
        grad = torch.matmul(columns[:, None], grad)  # (RoIs, height, width, channels)
        out = grad.new_zeros(images, height, width, channels)
        out.index_add_(0, rois[:, 0].long(), grad)
        return out.permute(0, 3, 1, 2), None, None, None, None


def interpolation_matrix(low: Tensor, high: Tensor, bins: int, size: int, ratio: int) -> Tensor:
    """Weights `(N, bins, size)` of `size` pixels in `bins` equal parts of `N` intervals.

    A part is the mean of `ratio` samples, each bilinear between the two pixels around it; samples
    more than a pixel outside count as zero.

    Args:
        low, high: `(N,)` ends of the intervals, in pixels, 0 the centre of the first.
    """
    step = (high - low) / (bins * ratio)
    at = low[:, None] + step[:, None] * (torch.arange(bins * ratio) + 0.5)
    inside = (at >= -1) & (at <= size)
    at = at.clamp(0, size - 1)[..., None]
    weights = (1 - (at - torch.arange(size)).abs()).clamp_min(0) * inside[..., None]
    return weights.view(len(low), bins, ratio, size).mean(2)


def use_matrix_mask_layers(model: nn.Module) -> None:
    """Replace these layers of every mask head in `model`, in place; the weights stay the same."""
    for head in model.modules():
        if isinstance(head, MaskRCNNConvUpsampleHead):
            if head.deconv.kernel_size == head.deconv.stride == (2, 2):
                head.deconv.__class__ = MatrixDeconvolution
            head.predictor.__class__ = MatrixPointwise


class MatrixDeconvolution(nn.ConvTranspose2d):
    """A `ConvTranspose2d` whose stride is its kernel's size: `(N, C, H, W)` -> `(N, O, 2H, 2W)`."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if input.device.type != "cpu":
            return super().forward(input, output_size)
        n, _, h, w = input.shape
        size, channels = self.kernel_size[0], self.out_channels
        weight = self.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (size * size * O, C)
        bias = None if self.bias is None else self.bias.repeat(size * size)
        y = F.linear(input.permute(0, 2, 3, 1), weight, bias)
        y = y.view(n, h, w, size, size, channels).transpose(2, 3)
        return y.reshape(n, h * size, w * size, channels).permute(0, 3, 1, 2)


class MatrixPointwise(nn.Conv2d):
    """A 1x1 `Conv2d`: `(N, C, H, W)` -> `(N, O, H, W)`."""

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu":
            return super().forward(input)
        y = F.linear(input.permute(0, 2, 3, 1), torch.flatten(self.weight, 1), self.bias)
        return y.permute(0, 3, 1, 2)
