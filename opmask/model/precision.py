"""The precision of a forward pass: the paper's fp32, or bf16 where a scale asks for it.

bf16 has eight significant bits: it rounds a coordinate of 160 pixels by up to 0.5, one of 1333 by
up to 4. So autocast covers the networks alone, and what lies between them never sees it: anchors,
boxes, NMS, RoIAlign's grid, class activation maps and priors, losses, pasted masks. What detection
makes of a network's output (logits, box deltas) is float32; feature maps stay bf16.
"""

from collections.abc import Callable
from typing import Any

import torch
from detectron2.layers import ROIAlign
from torch import Tensor, nn
from torchvision.ops import roi_align

from opmask.errors import UserError

# Of detectron2's models, by module and method, and of `opmask.training.warm_start`. The predictors
# of boxes and classes are none: two layers on one vector a RoI, whose outputs are coordinates.
_FEATURES = {
    "backbone": "forward",
    "backbone.bottom_up": "forward",
    "roi_heads.box_head": "forward",
}
_OUTPUTS = {"proposal_generator.rpn_head": "forward", "roi_heads.mask_head": "layers"}


def use_precision(model: nn.Module, precision: str) -> None:
    """Make `model` compute in "fp32", or its networks in "bf16" by autocast (without loss scaling).

    Raises:
        UserError: any other precision.
    """
    if precision not in ("fp32", "bf16"):
        raise UserError(f"precision {precision!r} is unknown; it is fp32 or bf16")
    if precision == "fp32":
        return
    use_float32_roi_align(model)
    modules = dict(model.named_modules())
    for name, method in (_FEATURES | _OUTPUTS).items():
        if name in modules:
            device = next(modules[name].parameters()).device.type
            network = torch.autocast(device, torch.bfloat16)(getattr(modules[name], method))
            setattr(modules[name], method, _then_float32(network) if name in _OUTPUTS else network)


def _then_float32(network: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: _float32(network(*args))


def _float32(output: Any) -> Any:  # noqa: ANN401
    return output.float() if isinstance(output, Tensor) else type(output)(map(_float32, output))


def float32(device: torch.device) -> torch.autocast:
    """A context in which no autocast around it has a say."""
    return torch.autocast(device.type, enabled=False)


class Float32ROIAlign(ROIAlign):
    """detectron2's `ROIAlign`, which rounds boxes to the precision of the features; this does not.

    It also samples in float32, as torchvision does under autocast; returns the features' type.
    """

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        grid = (self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)
        return roi_align(input.float(), rois.float(), *grid).to(input.dtype)


def use_float32_roi_align(model: nn.Module) -> None:
    """Let every pooler in `model` take boxes as they are, in place."""
    for module in model.modules():
        if type(module) is ROIAlign:
            module.__class__ = Float32ROIAlign
