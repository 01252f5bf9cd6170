"""The precision of a forward pass: the paper's fp32, or bf16 where a scale asks for it."""

import torch

from opmask.errors import UserError


def use_precision(model: torch.nn.Module, precision: str) -> None:
    """Make `model`'s forward pass run in "fp32", or in "bf16" by autocast (no loss scaling needed).

    Raises:
        UserError: any other precision.
    """
    if precision == "bf16":
        device = next(model.parameters()).device.type
        model.forward = torch.autocast(device, torch.bfloat16)(model.forward)
    elif precision != "fp32":
        raise UserError(f"precision {precision!r} is unknown; it is fp32 or bf16")
