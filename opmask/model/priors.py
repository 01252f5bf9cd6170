"""What may stand in place of the RoI's class activation map: controls of what OPMask gains by.

A kind of prior is called with `cam_of`, which gives the `(N, h, w)` maps of N RoIs for `(N,)`
classes; the RoIs' classes; how many classes there are; and where random numbers come from. It
returns `(N, h, w)` maps, which are then scaled and resized like the class activation maps.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

Prior = Callable[[Callable[[Tensor], Tensor], Tensor, int, Generator | None], Tensor]
PRIORS: dict[str, Prior] = {}  # by the name that `prior_kind` of a method calls


def register(kind: Prior) -> Prior:
    """Add `kind` to `PRIORS` under its own name."""
    PRIORS[kind.__name__] = kind
    return kind


@register
def cam(
    cam_of: Callable[[Tensor], Tensor], classes: Tensor, _count: int, _random: Generator | None
) -> Tensor:
    """The paper's: each RoI's map of its class."""
    return cam_of(classes)


@register
def gaussian(
    cam_of: Callable[[Tensor], Tensor], classes: Tensor, _count: int, _random: Generator | None
) -> Tensor:
    """Mere location: a bump in the box's middle, 1 there, its deviations a quarter of the sides."""
    maps = cam_of(classes)
    rows, columns = (
        torch.exp(-8 * ((torch.arange(n, device=maps.device) + 0.5) / n - 0.5) ** 2)
        for n in maps.shape[1:]
    )
    return torch.outer(rows, columns).expand_as(maps)


@register
def constant(
    cam_of: Callable[[Tensor], Tensor], classes: Tensor, _count: int, _random: Generator | None
) -> Tensor:
    """No information: the middle of the prior's range. Min-max scaling would make it 0."""
    return torch.full_like(cam_of(classes), 0.5)


@register
def shuffled(
    cam_of: Callable[[Tensor], Tensor], classes: Tensor, _count: int, random: Generator | None
) -> Tensor:
    """Another RoI's map of that RoI's class: a random cycle of those of the batch, so that none
    keeps its own (but one that is alone)."""
    order = torch.randperm(len(classes), generator=random).to(classes.device)
    maps = cam_of(classes)
    return maps.new_empty(maps.shape).index_copy(0, order, maps[order.roll(1)])


@register
def random_class(
    cam_of: Callable[[Tensor], Tensor], classes: Tensor, count: int, random: Generator | None
) -> Tensor:
    """The RoI's own map of another class, each of the `count - 1` as likely."""
    steps = torch.randint(1, count, (len(classes),), generator=random).to(classes.device)
    return cam_of((classes + steps) % count)
