"""Batch normalisation over the batches of all processes, so that their number changes nothing.

torch's SyncBatchNorm runs on GPUs alone, and stays where a configuration has it; detectron2's
stand-in takes the mean of the processes' means, however many RoIs each has.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from detectron2.utils import comm
from fvcore.nn.distributed import differentiable_all_reduce
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise_norms(model: nn.Module) -> None:
    """Let every batch normalisation of `model` that trains see all processes' batches, in place.

    With one process nothing is changed.
    """
    if comm.get_world_size() == 1:
        return
    for module in model.modules():
        native = isinstance(module, nn.SyncBatchNorm) and module.weight.is_cuda
        if isinstance(module, _BatchNorm) and not native:
            vars(module)["forward"] = partial(_normalise, module, module.forward)


def _normalise(norm: Any, alone: Callable, x: Tensor) -> Tensor:
    """`norm` of `(N, C, H, W)`, of which a process may have none; `alone` does it in evaluation."""
    if not norm.training:
        return alone(x)
    axes = (0, 2, 3)
    values = x.float()
    count = differentiable_all_reduce(values.new_tensor([values.numel() / values.shape[1]]))
    mean = differentiable_all_reduce(values.sum(axes)) / count
    centred = values - mean[:, None, None]
    variance = differentiable_all_reduce(centred.square().sum(axes)) / count
    with torch.no_grad():  # as torch does: the running variance is the unbiased one
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    result = (centred * scale[:, None, None] + norm.bias[:, None, None]).to(x.dtype)
    for then in ("drop", "act"):  # of timm's layers, which go on after they have normalised
        result = getattr(norm, then, nn.Identity())(result)
    return result
