"""The mask head's last two layers as matrix products, for CPUs.

A 2x2 deconvolution of stride 2 and a 1x1 convolution to one channel are one matrix product a
pixel. As convolutions their gradients take four times as long, a sixth of a step at small scales.
"""

import torch
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead
from torch import Tensor, nn
from torch.nn import functional as F


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
