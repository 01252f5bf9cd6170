"""ShapeProp: a saliency map learned from boxes, propagated into the object's shape.

Zhou et al., *Learning Saliency Propagation for Semi-Supervised Instance Segmentation* (CVPR 2020),
after the authors' code (ucbdrive/ShapeProp), of which nothing is taken over.

Faithful: a fully convolutional classifier with its own convolutions, trained on all sampled RoIs,
background included; the map of the RoI's class, true in training, predicted at test; a diffusion
over 8 neighbours with learned weights, as many times as the grid is long; its result, supervised
by masks at the grid's resolution, encoded and concatenated to the mask features; no stopped
gradients, no normalisation, all weights 1.
Adapted: the base's box head; batch normalisation in the mask head's own convolutions; the mask
head's RoIAlign for all of it; nothing is propagated for RoIs that are not positive, of which the
original uses nothing either; mask losses run on all positives and learn from supervised ones.
Unconfirmed: the paper's weights of the losses; its R-101 and non-VOC -> VOC configurations.
"""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, cat, cross_entropy
from detectron2.modeling import ROI_HEADS_REGISTRY, ROI_MASK_HEAD_REGISTRY
from detectron2.structures import Instances
from fvcore.nn.weight_init import c2_msra_fill, c2_xavier_fill
from torch import Tensor, nn
from torch.nn import functional as F

from opmask.model.precision import float32
from opmask.model.ranks import over_all_ranks
from opmask.model.roi_heads import OPMaskROIHeads, PriorMaskHead

EPSILON = 1e-5


def add_config(cfg: CfgNode) -> None:
    """Add the keys `MODEL.SHAPEPROP`, with the authors' values."""
    cfg.MODEL.SHAPEPROP = CfgNode()
    # 3x3 convolutions of each of the two towers, ROI_MASK_HEAD.CONV_DIM wide.
    cfg.MODEL.SHAPEPROP.NUM_CONV = 4
    # Channels in which saliency is propagated.
    cfg.MODEL.SHAPEPROP.LATENT_DIM = 24
    # A pixel's neighbours weigh differently in each of these channels, or the same in all.
    cfg.MODEL.SHAPEPROP.KERNEL_PER_CHANNEL = True
    cfg.MODEL.SHAPEPROP.ACTIVATING_WEIGHT = 1.0  # of the losses
    cfg.MODEL.SHAPEPROP.PROPAGATING_WEIGHT = 1.0


def propagate(x: Tensor, kernels: Tensor, steps: int | None = None) -> Tensor:
    """`x`, `(N, C, H, W)`, each pixel of which becomes a weighted mean of its 3x3 window, `steps`
    times (default: the longer side's length). Outside the grid are zeros.

    Args:
        kernels: `(N, 9 C, H, W)` weights, channel by channel, each window row by row; `(N, 9, H,
            W)`: the same for all channels. Scaled to a sum of 1.
    """
    n, channels, height, width = x.shape
    kernels = kernels.view(n, kernels.shape[1] // 9, 9, height, width)
    kernels = kernels / (kernels.sum(2, keepdim=True) + EPSILON)
    for _ in range(max(height, width) if steps is None else steps):
        windows = F.unfold(x, 3, padding=1).view(n, channels, 9, height, width)
        x = (kernels * windows).sum(2)
    return x


def maps_of(class_saliency: Tensor, classes: Tensor) -> Tensor:
    """The `(N, H, W)` maps of `(N,)` classes, of the `(N, K + 1, H, W)` ones of all."""
    return class_saliency[torch.arange(len(classes), device=classes.device), classes]


def activating_loss(class_saliency: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy of the `(N, K + 1, H, W)` maps' means with the `(N,)` classes; 0 of no RoIs."""
    return cross_entropy(class_saliency.mean((2, 3)), classes)


def scaled_activation(activation: Tensor) -> Tensor:
    """The positive part of each `(N, 1, H, W)` shape activation, in [0, 1)."""
    positive = F.relu(activation)
    return positive / (positive.amax((2, 3), keepdim=True) + EPSILON)


def convolutions(*channels: int, last_relu: bool) -> nn.Sequential:
    """3x3 convolutions from each number of channels to the next, with ReLUs between them."""
    layers: list[nn.Module] = []
    for before, after in zip(channels, channels[1:], strict=False):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        c2_msra_fill(layers[-2])
    return nn.Sequential(*layers if last_relu else layers[:-1])


def pointwise(before: int, after: int) -> nn.Conv2d:
    """A 1x1 convolution."""
    layer = nn.Conv2d(before, after, 1)
    c2_xavier_fill(layer)
    return layer


class ShapeProp(nn.Module):
    """Class saliency of RoI features and its propagation.

    The two towers compute in the features' precision, the rest in that of the weights.
    """

    def __init__(
        self, channels: int, width: int, num_conv: int, num_classes: int, latent: int,
        *, kernel_per_channel: bool = True,
    ):  # fmt: skip
        super().__init__()
        tower = (channels, *[width] * num_conv)
        self.activating = convolutions(*tower, last_relu=True)
        self.classifier = pointwise(width, num_classes + 1)
        self.propagating = convolutions(*tower, last_relu=True)
        self.kernels = pointwise(width, 9 * (latent if kernel_per_channel else 1))
        self.encoder = convolutions(1, latent, latent, latent, last_relu=False)
        self.decoder = convolutions(latent, latent, latent, 1, last_relu=False)

    def class_saliency(self, x: Tensor) -> Tensor:
        """`(N, C, H, W)` RoI features -> `(N, K + 1, H, W)` maps, background last."""
        return self._networks(x, self.activating, self.classifier)

    def forward(self, x: Tensor, saliency: Tensor) -> Tensor:
        """RoI features and their class's `(N, H, W)` saliency -> `(N, 1, H, W)` shape activation,
        logits of the object's mask."""
        kernels = self._networks(x, self.propagating, self.kernels).sigmoid()
        with float32(x.device):
            return self.decoder(propagate(self.encoder(saliency[:, None]), kernels))

    def _networks(self, x: Tensor, tower: nn.Module, last: nn.Module) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=x.dtype == torch.bfloat16):
            return last(tower(x)).to(self.classifier.weight.dtype)


@ROI_MASK_HEAD_REGISTRY.register()
class ShapePropMaskHead(PriorMaskHead):
    """The baseline's mask head, which also sees the shape activation: its input's last channel."""

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, propagating_weight: float, **kwargs: Any):
        width = kwargs["conv_dims"][0]
        shape = ShapeSpec(
            channels=input_shape.channels + width,
            height=input_shape.height,
            width=input_shape.width,
        )
        super().__init__(shape, **kwargs)
        self.propagating_weight = propagating_weight
        self.encoder = convolutions(1, *[width] * 4, last_relu=False)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        weight = cfg.MODEL.SHAPEPROP.PROPAGATING_WEIGHT
        return {**super().from_config(cfg, input_shape), "propagating_weight": weight}

    def layers(self, x: Tensor) -> Tensor:
        """`(N, C + 1, H, W)` features -> `(N, K, 2H, 2W)` logits."""
        features, activation = x[:, :-1], x[:, -1:]
        encoded = self.encoder(scaled_activation(activation))
        x = cat([features.to(encoded.dtype), encoded], dim=1)
        for layer in (*self.conv_norm_relus, self.deconv, self.deconv_relu, self.predictor):
            x = layer(x)
        return x

    def forward(self, x: Tensor, instances: list[Instances]) -> dict[str, Tensor] | list[Instances]:
        found = super().forward(x, instances)
        if isinstance(found, dict):
            found.update(self.propagating_loss(x[:, -1], instances))
        return found

    def propagating_loss(self, activation: Tensor, instances: list[Instances]) -> dict[str, Tensor]:
        """Of the RoIs with a mask, at the `(N, H, W)` activation's resolution."""
        taught = activation[cat([image.gt_has_mask for image in instances])]
        supervised = [image[image.gt_has_mask] for image in instances]
        masks = [
            image.gt_masks.crop_and_resize(image.proposal_boxes.tensor, activation.shape[-1])
            for image in supervised
            if len(image)
        ]
        if masks:
            loss = F.binary_cross_entropy_with_logits(taught, cat(masks).to(taught))
        else:
            loss = activation.sum() * 0
        return over_all_ranks({"loss_propagating": loss * self.propagating_weight}, len(taught))


@ROI_HEADS_REGISTRY.register()
class ShapePropROIHeads(OPMaskROIHeads):
    """RoI heads with a `ShapePropMaskHead`, to whose features the shape activation is added."""

    @configurable
    def __init__(self, *, shapeprop: ShapeProp, activating_weight: float, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(getattr(self, "mask_head", None), ShapePropMaskHead):
            raise ValueError("roi_heads: ShapePropROIHeads needs mask_head: ShapePropMaskHead")
        self.shapeprop = shapeprop
        self.activating_weight = activating_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        keys = cfg.MODEL.SHAPEPROP
        shapeprop = ShapeProp(
            input_shape[cfg.MODEL.ROI_HEADS.IN_FEATURES[0]].channels,
            cfg.MODEL.ROI_MASK_HEAD.CONV_DIM,
            keys.NUM_CONV,
            cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            keys.LATENT_DIM,
            kernel_per_channel=keys.KERNEL_PER_CHANNEL,
        )
        return {
            **super().from_config(cfg, input_shape),
            "shapeprop": shapeprop,
            "activating_weight": keys.ACTIVATING_WEIGHT,
        }

    def _forward_mask(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        activating = self.activate(features, instances) if self.training else {}
        found = super()._forward_mask(features, instances)
        if isinstance(found, dict):
            found.update(activating)
        return found

    def activate(
        self, features: dict[str, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor]:
        """Gives all sampled proposals the `saliency` of their class; the loss of the maps."""
        boxes = [image.proposal_boxes for image in proposals]
        x = self.mask_pooler([features[f] for f in self.mask_in_features], boxes)
        maps = self.shapeprop.class_saliency(x)
        classes = cat([image.gt_classes for image in proposals])
        per_image = maps_of(maps, classes).split([len(image) for image in proposals])
        for image, own in zip(proposals, per_image, strict=True):
            image.saliency = own
        loss = {"loss_activating": activating_loss(maps, classes) * self.activating_weight}
        return over_all_ranks(loss, len(maps))

    def mask_features(
        self, x: Tensor, features: dict[str, Tensor], instances: list[Instances]
    ) -> Tensor:
        """The base's, and the shape activation as a further channel."""
        if self.training:
            saliency = cat([image.saliency for image in instances])
        else:
            classes = cat([image.pred_classes for image in instances])
            saliency = maps_of(self.shapeprop.class_saliency(x), classes)
        activation = self.shapeprop(x, saliency)
        x = super().mask_features(x, features, instances)
        return cat([x.to(activation.dtype), activation], dim=1)
