"""Weights that come with the project: the miniature's stand-in for ImageNet, a file a backbone.

Learned from boxes and classes of drawn scenes alone, by the phases of `scales/miniature.yaml:
warm_start`. To stay small, weights of two and more dimensions are stored in 8 bits: whole numbers
from -127 to 127 and one float32 factor an output channel, as in post-training quantisation. What
is read is float32 again; the rounding is no more than 0.4 % of a channel's largest weight.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from opmask.errors import UserError

FOLDER = Path(__file__).parent
_FACTOR = ".factor"  # after the name of a weight in 8 bits
_ABOUT = "about"


def shipped_file(backbone: str) -> Path:
    """Where the weights of `backbone` lie.

    Raises:
        UserError: none come with the project.
    """
    path = FOLDER / f"{backbone}.safetensors"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.safetensors"))) or "none"
        raise UserError(
            f"backbone {backbone}: no weights ship with the project; of {known} some do"
        )
    return path


def pack(weights: Mapping[str, Tensor], about: Mapping[str, Any], out: Path) -> None:
    """Write `weights`, any shapes and dtypes of numbers, and what `about` says of them to `out`."""
    packed: dict[str, Tensor] = {}
    for name, value in weights.items():
        if value.ndim < 2:
            packed[name] = value.float().contiguous()
            continue
        rows = value.float().flatten(1)
        factor = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        whole = (rows / factor[:, None]).round().to(torch.int8)
        packed[name], packed[name + _FACTOR] = whole.view(value.shape).contiguous(), factor
    save_file(packed, out, {_ABOUT: json.dumps(about)})


def unpack(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The float32 weights that `pack` wrote to `path`, by name, and what is said of them."""
    with safe_open(path, "pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()[_ABOUT])
    factors = {n.removesuffix(_FACTOR): stored.pop(n) for n in list(stored) if n.endswith(_FACTOR)}
    for name, factor in factors.items():
        stored[name] = stored[name] * factor.view(-1, *[1] * (stored[name].ndim - 1))
    return {name: value.float() for name, value in stored.items()}, about
