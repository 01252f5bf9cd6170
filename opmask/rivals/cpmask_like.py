"""CPMask-like: boundaries and pairwise affinities of pixels as what objects of all classes share.

After what is known of Fan et al., *Commonality-Parsing Network across Shape and Appearance for
Partially Supervised Instance Segmentation* (ECCV 2020). Its code was never released and nothing
here can be checked against it: a reconstruction, never to be called CPMask.

Confirmed: class-agnostic; the object's boundary is predicted and supervised; pairwise affinities of
the RoI's pixels are learned, so that object and background separate; training at several scales.
Ours, all unconfirmed: layers and widths (boundary branch and its loss, BCE and Dice, after BMask
R-CNN, but on the mask's own features); the boundary, a pixel to either side, of a helper of the
same author; one non-local block as affinities, which learn whether two pixels are both of the
object or both not; the weights of the losses. Adapted: the base's boxes, schedule and images.
"""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec, cat, get_norm
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.structures import Instances
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor, nn
from torch.nn import functional as F

from opmask.model.precision import float32
from opmask.model.ranks import over_all_ranks
from opmask.model.roi_heads import PriorMaskHead


def add_config(cfg: CfgNode) -> None:
    """Add the keys `MODEL.CPMASK_LIKE`; the authors' values are unknown."""
    cfg.MODEL.CPMASK_LIKE = CfgNode()
    cfg.MODEL.CPMASK_LIKE.BOUNDARY_WEIGHT = 1.0
    cfg.MODEL.CPMASK_LIKE.AFFINITY_WEIGHT = 1.0  # 0: learned through the mask alone


def boundary(masks: Tensor) -> Tensor:
    """Of `(N, H, W)` masks in {0, 1}: 1 in dilation minus erosion by a cross of 3x3 pixels."""

    def dilated(x: Tensor) -> Tensor:
        rows = F.max_pool2d(x[:, None], (3, 1), 1, (1, 0))
        return torch.maximum(rows, F.max_pool2d(x[:, None], (1, 3), 1, (0, 1)))[:, 0]

    return dilated(masks) - (1 - dilated(1 - masks))


def dice_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """The mean over RoIs of 1 - (2ab + 1) / (a + b + 1), both `(N, H, W)`."""
    both = (probabilities * targets).sum((1, 2))
    either = probabilities.sum((1, 2)) + targets.sum((1, 2))
    return (1 - (2 * both + 1) / (either + 1)).mean()


def same_side(masks: Tensor) -> Tensor:
    """`(N, H, W)` masks in {0, 1} -> `(N, HW, HW)`: 1 where two pixels have the same value."""
    flat = masks.flatten(1)
    return (flat[:, :, None] == flat[:, None, :]).to(masks.dtype)


@ROI_MASK_HEAD_REGISTRY.register()
class CPMaskLikeHead(PriorMaskHead):
    """The base's mask head with a branch of affinities and one of the boundary.

    Both see the RoI's features at the mask's grid; in training they have losses of their own,
    `loss_boundary` and `loss_affinity`, on the RoIs that may teach the mask.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        boundary_weight: float,
        affinity_weight: float,
        **kwargs: Any,
    ):
        super().__init__(input_shape, **kwargs)
        self.weights = {"loss_boundary": boundary_weight, "loss_affinity": affinity_weight}
        width, norm = kwargs["conv_dims"][-1], kwargs.get("conv_norm", "")

        def conv(inputs: int, outputs: int, size: int) -> Conv2d:
            layer = Conv2d(
                inputs, outputs, size, padding=size // 2, bias=not norm,
                norm=get_norm(norm, outputs), activation=nn.ReLU(),
            )  # fmt: skip
            c2_msra_fill(layer)
            return layer

        self.query, self.key, self.value = (nn.Conv2d(width, width // 2, 1) for _ in range(3))
        self.attended = nn.Conv2d(width // 2, width, 1)
        self.edges_in = conv(input_shape.channels, width, 3)
        self.to_edges, self.from_edges = conv(width, width, 1), conv(width, width, 1)
        self.edges = nn.Sequential(conv(width, width, 3), conv(width, width, 3))
        self.fused = conv(width, width, 3)
        self.edge_deconv = ConvTranspose2d(width, width, 2, stride=2)
        self.edge_predictor = Conv2d(width, 1, 1)
        for layer in (self.query, self.key, self.value, self.attended, self.edge_deconv):
            c2_msra_fill(layer)
        nn.init.normal_(self.edge_predictor.weight, std=0.001)
        nn.init.zeros_(self.edge_predictor.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        return {
            **super().from_config(cfg, input_shape),
            "boundary_weight": cfg.MODEL.CPMASK_LIKE.BOUNDARY_WEIGHT,
            "affinity_weight": cfg.MODEL.CPMASK_LIKE.AFFINITY_WEIGHT,
        }

    def affinities(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Non-local block: `(N, C, H, W)` -> the same, and `(N, HW, HW)` float32 logits."""
        query, key, value = (f(x).flatten(2) for f in (self.query, self.key, self.value))
        with float32(x.device):
            logits = query.float().transpose(1, 2) @ key.float() / query.shape[1] ** 0.5
            gathered = value.float() @ logits.softmax(2).transpose(1, 2)
        shape = len(x), -1, *x.shape[2:]
        return x + self.attended(gathered.to(x.dtype).view(shape)), logits

    def layers(self, x: Tensor) -> Tensor:
        """`(N, C', H, W)` features -> `(N, 1, 2H, 2W)` mask logits; in training, the branches'
        logits are left in `self.branches`."""
        edges = self.edges_in(x)
        for layer in self.conv_norm_relus:
            x = layer(x)
        x, affinity = self.affinities(x)
        edges = self.edges(edges + self.to_edges(x))
        x = self.fused(x + self.from_edges(edges))
        if self.training:
            edge_logits = self.edge_predictor(F.relu(self.edge_deconv(edges)))
            self.branches = edge_logits[:, 0].float(), affinity
        return self.predictor(self.deconv_relu(self.deconv(x)))

    def forward(self, x: Tensor, instances: list[Instances]) -> dict[str, Tensor] | list[Instances]:
        found = super().forward(x, instances)
        if not isinstance(found, dict):
            return found
        taught = cat([i.gt_has_mask for i in instances])
        edges, affinity = (logits[taught] for logits in self.branches)
        del self.branches
        supervised = [one for i in instances if len(one := i[i.gt_has_mask])]
        losses = {"loss_boundary": edges.sum() * 0, "loss_affinity": affinity.sum() * 0}
        if supervised:
            target = boundary(cropped(supervised, edges.shape[1]))
            same = same_side(cropped(supervised, x.shape[2])).to(affinity.dtype)
            edge_loss = F.binary_cross_entropy_with_logits(edges, target)
            losses["loss_boundary"] = edge_loss + dice_loss(edges.sigmoid(), target)
            losses["loss_affinity"] = F.binary_cross_entropy_with_logits(affinity, same)
        weighted = {name: loss * self.weights[name] for name, loss in losses.items()}
        return {**found, **over_all_ranks(weighted, len(edges))}


def cropped(instances: list[Instances], side: int) -> Tensor:
    """Their masks in their boxes: `(N, side, side)` float32, 0 or 1."""
    crops = [i.gt_masks.crop_and_resize(i.proposal_boxes.tensor, side) for i in instances]
    device = instances[0].proposal_boxes.device
    return cat(crops).to(device=device, dtype=torch.float32)
