"""Losses of a training that several processes share, normalised over all of them.

Each process sees its share of the images, and DistributedDataParallel takes the mean of their
gradients: of losses that are means of their own, a mean of means, in which the RoIs of a process
with few count for more.
"""

import torch
from detectron2.utils import comm
from torch import Tensor
from torch.distributed import all_reduce


def over_all_ranks(losses: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """`losses`, means over `count` terms here, so that their mean over the processes is the mean
    over the terms of all. Every process must call it, in the same order; with one nothing changes.
    """
    ranks = comm.get_world_size()
    if ranks == 1:
        return losses
    device = next(iter(losses.values())).device
    total = torch.full((), float(count), device=device)  # a kernel, no transfer
    all_reduce(total)
    return {name: loss * (count * ranks / total.clamp_min(1)) for name, loss in losses.items()}
