"""Any feature extractor of timm under detectron2's FPN: `MODEL.BACKBONE.NAME` and `MODEL.TIMM`.

Its feature maps of strides 4, 8, 16 and 32 are called res2 … res5, so that everything above is
configured as for a ResNet.
"""

import difflib
import logging
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from opmask.errors import UserError

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
NORMS = ("FrozenBN", "BN")


def import_timm() -> ModuleType:
    """timm, which only backbones of this kind need.

    Raises:
        UserError: it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise UserError(
            "timm is not installed; it is in dependency group `timm`: uv sync --group timm, "
            "or pip install 'opmask[timm]'"
        ) from error
    return timm


def pixel_statistics(name: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of R, G, B, in 0 … 255, that timm's model `name` expects."""
    _require_model(name)
    found = import_timm().get_pretrained_cfg(name)
    if found is None:
        raise UserError(f"backbone: timm knows no input statistics of {name!r}")
    return [255 * value for value in found.mean], [255 * value for value in found.std]


def _require_model(name: str) -> None:
    timm = import_timm()
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.4)
        raise UserError(
            f"paper.yaml: backbones: timm has no model {name!r}; "
            f"near it are {', '.join(close) or 'none'}"
        )


class TimmFeatures(Backbone):
    """The bottom-up network: images `(N, 3, H, W)` -> feature maps by detectron2's names.

    Args:
        name: timm's name of the model.
        out_features: which of res2 … res5 to give.
        norm: "FrozenBN", batch normalisation that never changes, as detectron2 has it for ResNets
            from ImageNet; or "BN", which learns.
        freeze_at: as MODEL.BACKBONE.FREEZE_AT: 2 freezes all that res2 is made of; 0 nothing.

    Raises:
        UserError: timm has no such model, or it has no feature map of some stride.
    """

    net: Any  # timm's, with `feature_info`

    def __init__(self, name: str, out_features: list[str], norm: str, freeze_at: int):
        super().__init__()
        if norm not in NORMS:
            raise UserError(f"MODEL.TIMM.NORM: {norm!r} is unknown; it is {' or '.join(NORMS)}")
        self.timm_name, self.norm = name, norm
        self.net = _features(name)
        for module in self.net.modules():
            if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
                vars(module)["forward"] = _learning_in_float32_on_cpu(module)
        self._out_features = list(out_features)
        strides, channels = self.net.feature_info.reduction(), self.net.feature_info.channels()
        lacking = [f for f in out_features if STRIDES[f] not in strides]
        if lacking:
            raise UserError(
                f"backbone {name!r}: no feature map of stride {STRIDES[lacking[0]]}; "
                f"its strides are {', '.join(map(str, strides))}"
            )
        # of several maps of one stride, the last has seen most
        last = {stride: index for index, stride in enumerate(strides)}
        self._indices = {f: last[STRIDES[f]] for f in out_features}
        self._out_feature_strides = {f: STRIDES[f] for f in out_features}
        self._out_feature_channels = {f: channels[i] for f, i in self._indices.items()}
        if freeze_at:
            self._freeze(freeze_at)
        if norm == "FrozenBN":
            for parameter in [p for m in self._batch_norms() for p in m.parameters()]:
                parameter.requires_grad_(False)

    def _batch_norms(self) -> list[nn.Module]:
        batch_norm = nn.modules.batchnorm._BatchNorm
        return [m for m in self.net.modules() if isinstance(m, batch_norm)]

    def _freeze(self, freeze_at: int) -> None:
        """Freeze every parameter that the map of stride 2^`freeze_at` depends on."""
        was_training = self.net.training
        parameters, strides = list(self.net.parameters()), self.net.feature_info.reduction()
        with torch.enable_grad():  # whatever the model is built in
            maps = self.net.eval()(torch.zeros(1, 3, 64, 64))
            frozen = [x for x, stride in zip(maps, strides, strict=True) if stride <= 2**freeze_at]
            ends = [x.sum() for x in frozen]
            used = torch.autograd.grad(ends, parameters, allow_unused=True) if ends else ()
        for parameter, gradient in zip(parameters, used, strict=bool(ends)):
            if gradient is not None:
                parameter.requires_grad_(False)
        self.net.train(was_training)

    def train(self, mode: bool = True) -> "TimmFeatures":
        """As any module's; frozen batch normalisation keeps ImageNet's statistics.

        The layers stay timm's own, as some contain the activation that follows.
        """
        super().train(mode)
        if self.norm == "FrozenBN":
            for module in self._batch_norms():
                module.eval()
        return self

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.net(x)
        return {name: maps[index] for name, index in self._indices.items()}


def _learning_in_float32_on_cpu(depthwise: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    """`depthwise.forward`, which autocast leaves alone on CPU if a gradient is to follow.

    oneDNN's bfloat16 gradient of one takes 3 to 10 times as long as its float32 gradient.
    """
    forward = depthwise.forward

    def run(x: Tensor) -> Tensor:
        learns = torch.is_grad_enabled() and (x.requires_grad or depthwise.weight.requires_grad)
        if x.device.type != "cpu" or not learns:
            return forward(x)
        with torch.autocast("cpu", enabled=False):
            return forward(x.float()).to(x.dtype)

    return run


def _features(name: str) -> Any:  # noqa: ANN401
    _require_model(name)
    try:
        return import_timm().create_model(name, features_only=True)
    except (RuntimeError, AttributeError, TypeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"backbone {name!r}: timm gives no feature maps of it: {reason}") from error


def timm_weights(name: str, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Weights of `TimmFeatures(name)`, by its names, from those of the whole classifier.

    Args:
        state: the classifier's, by timm's names; without it timm fetches its own.

    Raises:
        UserError: they are not this model's, every one of them, or cannot be fetched.
    """
    timm = import_timm()
    logging.getLogger("timm").setLevel(logging.ERROR)  # it warns of the classifier, left out here
    given = {"pretrained_cfg_overlay": {"state_dict": dict(state)}} if state is not None else {}
    try:
        if state is not None:
            classifier = timm.create_model(name)
            mismatch = classifier.load_state_dict(state, strict=False)
            head = classifier.pretrained_cfg.get("classifier") or "classifier"
            heads = (head,) if isinstance(head, str) else tuple(head)
            lost = [k for k in mismatch.missing_keys if not k.startswith(heads)]
            if lost:
                raise UserError(
                    f"backbone {name!r}: weights lack {len(lost)} of its, e.g. {lost[0]}"
                )
        features = timm.create_model(name, features_only=True, pretrained=True, **given)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"backbone {name!r}: no ImageNet weights: {reason}") from error
    return {f"net.{key}": value for key, value in features.state_dict().items()}


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, _input_shape: ShapeSpec) -> FPN:
    """`MODEL.TIMM.NAME` with the maps MODEL.RESNETS.OUT_FEATURES under MODEL.FPN."""
    features = cfg.MODEL.RESNETS.OUT_FEATURES
    settings, freeze_at = cfg.MODEL.TIMM, cfg.MODEL.BACKBONE.FREEZE_AT
    return FPN(
        bottom_up=TimmFeatures(settings.NAME, features, settings.NORM, freeze_at),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
