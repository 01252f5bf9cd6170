"""Mask^X R-CNN: a class's mask weights are predicted from the box head's weights of that class.

Hu et al., *Learning to Segment Every Thing* (CVPR 2018), after the authors' code
(ronghanghu/seg_every_thing, Apache-2.0), of which nothing is taken over.

Faithful: a net T of two layers makes the last mask layer's filter of every class, novel ones too,
from the detached weights of its classifier and box regressor (no bias, no normalisation); the MLP
branch, one linear layer from all features to a class-agnostic mask that is added to each class's;
the loss on the RoI's own class; initial weights.
Adapted: the base's box head, batch normalisation in the mask head, which runs on all positives and
learns from supervised ones (the original drops the others, the same where nothing normalises); the
target is the matched object's mask, not that of the box that overlaps most; no background class;
where box regression is class-agnostic, a class is embedded by its classifier's weights alone.
Unconfirmed: the paper's numbers of its ablations (other embeddings, no stopped gradients, no MLP).
"""

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY, ROI_MASK_HEAD_REGISTRY
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor, nn
from torch.nn import functional as F

from opmask.model.precision import float32
from opmask.model.roi_heads import OPMaskROIHeads, PriorMaskHead


def add_config(cfg: CfgNode) -> None:
    """Add the keys `MODEL.MASKX`, with the paper's values. Whether mask gradients reach the box
    head's weights is `MODEL.OPMASK.CLASS_GRADIENTS`; the paper's headline model stops them."""
    cfg.MODEL.MASKX = CfgNode()
    # The second, class-agnostic branch: a linear layer of 157 M parameters at the paper's width.
    cfg.MODEL.MASKX.MLP = True
    # Embed a class by its box regressor's weights, too, if it has some of its own.
    cfg.MODEL.MASKX.BOX_WEIGHTS = True


def class_embeddings(scores: Tensor, regression: Tensor | None) -> Tensor:
    """Weights of the box head's last layers by class, classifier first: `(K, 5 D)`, or `(K, D)`.

    Args:
        scores: `(K + 1, D)`, background last;
        regression: `(4 K, D)`, four rows a class; None: without.
    """
    classes = scores[:-1]
    parts = [] if regression is None else [regression.reshape(len(classes), -1)]
    return torch.cat([classes, *parts], dim=1)


@ROI_MASK_HEAD_REGISTRY.register()
class TransferMaskHead(PriorMaskHead):
    """The baseline's mask head, whose last layer has a filter a class that T predicts.

    T's layers are 1x1 convolutions of embeddings, images of one pixel; its second is `predictor`.
    """

    embeddings: Callable[[], Tensor]  # gives the classes' `(K, E)`; set by `MaskXROIHeads`

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, embedding: int, mlp: bool, **kwargs: Any):
        channels = kwargs["conv_dims"][-1]
        super().__init__(input_shape, **{**kwargs, "num_classes": channels})
        self.transfer = nn.Conv2d(embedding, channels, 1)
        for layer in (self.transfer, self.predictor):
            c2_msra_fill(layer)
        self.mlp = None
        if mlp:
            pixels = 4 * input_shape.height * input_shape.width
            self.mlp = nn.Linear(channels * pixels, pixels)
            nn.init.normal_(self.mlp.weight, std=0.001)
            nn.init.zeros_(self.mlp.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        vectors = 5 if _has_box_weights(cfg) else 1
        return {
            **super().from_config(cfg, input_shape),
            "embedding": vectors * cfg.MODEL.OPMASK.BOX_CONV_DIMS[-1],
            "mlp": cfg.MODEL.MASKX.MLP,
        }

    def filters(self) -> Tensor:
        """T of all classes: `(K, C)` float32, each class's 1x1 filter of C channels."""
        embeddings = self.embeddings()[..., None, None]
        with float32(embeddings.device):
            return self.predictor(F.leaky_relu(self.transfer(embeddings), 0.1)).flatten(1)

    def layers(self, x: Tensor) -> Tensor:
        """`(N, C', h, w)` features -> `(N, K, 2h, 2w)` logits of every class."""
        for layer in (*self.conv_norm_relus, self.deconv, self.deconv_relu):
            x = layer(x)
        filters = self.filters()
        with float32(x.device):
            logits = torch.einsum("nchw,kc->nkhw", x.to(filters.dtype), filters)
        if self.mlp is None:
            return logits
        return logits + self.mlp(x.flatten(1)).view(len(x), 1, *x.shape[2:])


@ROI_HEADS_REGISTRY.register()
class MaskXROIHeads(OPMaskROIHeads):
    """The RoI heads whose `TransferMaskHead` knows each class by the box head's weights."""

    @configurable
    def __init__(self, *, box_weights: bool, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(getattr(self, "mask_head", None), TransferMaskHead):
            raise ValueError("roi_heads: MaskXROIHeads needs mask_head: TransferMaskHead")
        self.box_weights = box_weights
        self.mask_head.embeddings = self.class_embeddings

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        return {**super().from_config(cfg, input_shape), "box_weights": _has_box_weights(cfg)}

    def class_embeddings(self) -> Tensor:
        """`(K, E)`, as they are now; without gradients, unless these may reach the classifier."""
        regression = self.box_predictor.bbox_pred.weight if self.box_weights else None
        embeddings = class_embeddings(self.box_predictor.cls_score.weight, regression)
        return embeddings if self.class_gradients else embeddings.detach()


def _has_box_weights(cfg: CfgNode) -> bool:
    return cfg.MODEL.MASKX.BOX_WEIGHTS and not cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG
