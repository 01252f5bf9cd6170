"""ContrastMask: features of objects and of their surroundings are drawn apart, also without masks.

Wang et al., *ContrastMask: Contrastive Learning to Segment Every Thing* (CVPR 2022), after the
authors' code (huiserwang/ContrastMask), of which nothing is taken over. Built on OPMask's prior:
a method has `prior: true` and `mask_gradients: true` as well, and for the released code's choice of
RoIs `mask_rois: gt`, which here concerns the mask loss only, not the contrast.

Faithful: an encoder of RoI features at twice the mask head's grid, detached from the FPN; a loss
that contrasts foreground and background pixels, of masks where there are any, else of the class
activation map (detached), with keys near and far from the edge, and the positive below the line
without temperature; self-similarity that enhances the encoded features, which are added to the
mask features; the map scaled to [0, 1] after its resizing.
Adapted: the base's box head and its batch normalisation in the mask head; the loss grows, linearly,
for a number of warm-ups of the learning rate, not of epochs; the shared queries are those of a
process, the loss weighted by its RoIs.
Unconfirmed: how the map comes to 28x28 (here directly from the box head's 7x7); that RoIs with too
few points are left out of the queries, too; the initial weights; whether the edges are always those
of the stored example.
"""

from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, cat, get_norm
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import select_foreground_proposals
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor, nn
from torch.nn import functional as F

from opmask.model.precision import float32, use_float32_roi_align
from opmask.model.ranks import over_all_ranks
from opmask.model.roi_heads import (
    OPMaskROIHeads,
    PriorMaskHead,
    is_ground_truth,
    object_mask_prior,
    without_box_features,
)

TEMPERATURES = (0.3, 0.7)  # of easy and of hard keys
MIN_POINTS = 5  # of a RoI in each set of keys
FEWEST_QUERIES = 2  # pixels of a mask, below which the map is asked


def add_config(cfg: CfgNode) -> None:
    """Add the keys `MODEL.CONTRASTMASK`, with the authors' values."""
    cfg.MODEL.CONTRASTMASK = CfgNode()
    cfg.MODEL.CONTRASTMASK.NUM_CONV = 8  # 3x3 convolutions of the encoder
    cfg.MODEL.CONTRASTMASK.SAMPLED = 0.3  # share of a RoI's points of each kind
    cfg.MODEL.CONTRASTMASK.WEIGHT = 0.1  # of the loss, at the end of its ramp
    # Length of this ramp, as a multiple of SOLVER.WARMUP_ITERS: by these, as schedules that differ
    # in length share their beginning. It is 4 of the authors' 12 epochs, of 90,000 iterations.
    cfg.MODEL.CONTRASTMASK.RAMP = 30.0


class Points(NamedTuple):
    """Pixels of `N` RoIs that are compared, `(N, H, W)` bool each; keys are hard near the edge."""

    query_pos: Tensor
    query_neg: Tensor
    easy_pos: Tensor
    easy_neg: Tensor
    hard_pos: Tensor
    hard_neg: Tensor


def edge_map(masks: Tensor) -> Tensor:
    """Where the central differences of `(N, H, W)` masks are not zero."""
    rows, columns = torch.gradient(masks.float(), dim=(1, 2))
    return (rows != 0) | (columns != 0)


def select_points(cams: Tensor, masks: Tensor, edges: Tensor, has_mask: Tensor) -> Points:
    """The points of RoIs by their mask and its edge, of those without a mask by their map.

    Args:
        cams: `(N, H, W)` in [0, 1];
        masks, edges: `(N, H, W)` bool, of any content where `has_mask`, `(N,)`, is false.
    """
    near = F.max_pool2d(edges[:, None].float(), 3, 1, 1)[:, 0] > 0  # distance to an edge below 2
    ring = near & ~edges
    enough = [region.sum((1, 2), keepdim=True) >= FEWEST_QUERIES for region in (masks, ~masks)]
    base = (
        torch.where(enough[0], masks, cams > 0.95),
        torch.where(enough[1], ~masks, cams < 0.05),
        *(masks & ~ring, ~masks & ~near, ring & masks, ring & ~masks),
    )
    novel = (cams > 0.9, cams < 0.1) * 3
    of_mask = has_mask[:, None, None]
    return Points(*(torch.where(of_mask, a, b) for a, b in zip(base, novel, strict=True)))


def sample(region: Tensor, share: float) -> Tensor:
    """A random `share`, rounded up, of each RoI's points of an `(N, H, W)` set."""
    if share == 1:
        return region
    chosen = region.flatten(1)
    order = torch.rand_like(chosen, dtype=torch.float32).masked_fill(~chosen, 2).argsort(1)
    wanted = (share * chosen.sum(1, keepdim=True)).ceil()
    return (chosen & (order.argsort(1) < wanted)).view_as(region)


def contrast(query: Tensor, positives: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """How far from the `(C,)` query's direction `(P, C)` positives are, next to `(M, C)` negatives.

    The positive below the line lacks the temperature, as in the authors' code.
    """
    of_pos, of_neg = (
        F.cosine_similarity(keys - query, query[None], dim=1) for keys in (positives, negatives)
    )
    total = torch.logaddexp(of_pos, (of_neg / temperature).logsumexp(0))
    return (total - of_pos / temperature).mean()


def contrast_terms(projected: Tensor, points: Points) -> Tensor:
    """The `(4,)` losses of `(N, H, W, C)` vectors: foreground with easy and hard keys, background.

    Each has one query for all RoIs, the mean of theirs.
    """

    def query(region: Tensor) -> Tensor:
        weights = region.to(projected.dtype)
        weights = weights / weights.sum((1, 2), keepdim=True)
        return torch.einsum("nhw,nhwc->nc", weights, projected).mean(0)

    keys = (
        (points.easy_pos, points.easy_neg, TEMPERATURES[0]),
        (points.hard_pos, points.hard_neg, TEMPERATURES[1]),
    )
    sets = [(projected[pos], projected[neg], t) for pos, neg, t in keys]
    pos, neg = query(points.query_pos), query(points.query_neg)
    return torch.stack(
        [contrast(pos, own, other, t) for own, other, t in sets]
        + [contrast(neg, own, other, t) for other, own, t in sets]
    )


def contrast_loss(projected: Tensor, points: Points, share: float) -> tuple[Tensor, int]:
    """The sum of `contrast_terms` with a `share` of the keys, and of how many RoIs it is: those
    with enough keys of each kind. 0 of none."""
    counts = torch.stack([keys.sum((1, 2)) for keys in points[2:]])
    rows = (counts >= MIN_POINTS).all(0).nonzero()[:, 0]
    if not len(rows):
        return projected.sum() * 0, 0
    kept = [region[rows] for region in points]
    sampled = Points(*kept[:2], *(sample(region, share) for region in kept[2:]))
    return contrast_terms(projected[rows], sampled).sum(), len(rows)


def enhance(y: Tensor) -> Tensor:
    """Each pixel of `(N, C, H, W)` becomes the mean of all, weighted by their cosines' softmax."""
    n, channels, height, width = y.shape
    pixels = y.permute(0, 2, 3, 1).reshape(n, 1, height * width, channels)
    unit = F.normalize(pixels, dim=3)
    means = F.scaled_dot_product_attention(unit, unit, pixels, scale=1.0)
    return means.view(n, height, width, channels).permute(0, 3, 1, 2)


def networks(x: Tensor) -> torch.autocast:
    """A context in which networks compute in the precision of their input."""
    return torch.autocast(x.device.type, torch.bfloat16, enabled=x.dtype == torch.bfloat16)


class ContrastiveHead(nn.Module):
    """The encoder, the projector of the loss and the layer that leads into the mask features."""

    def __init__(self, channels: int, width: int, num_conv: int, norm: str):
        super().__init__()
        encoder: list[nn.Module] = []
        for before in (channels, *[width] * (num_conv - 1)):
            encoder += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
        self.encoder = nn.Sequential(*encoder)
        projector: list[nn.Module] = []
        for _ in range(2):
            projector += [nn.Conv2d(width, width, 1), get_norm(norm, width) or nn.Identity()]
            projector += [nn.ReLU()]
        self.projector = nn.Sequential(*projector, nn.Conv2d(width, width, 1))
        self.fuse = nn.Conv2d(width, channels, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                c2_msra_fill(layer)

    def encode(self, x: Tensor) -> Tensor:
        """`(N, C, 2H, 2W)` RoI features -> Y, `(N, C', 2H, 2W)`."""
        with networks(x):
            return self.encoder(x)

    def project(self, y: Tensor) -> Tensor:
        """Y -> `(N, 2H, 2W, C')` vectors to be compared, in the weights' precision."""
        with networks(y):
            return self.projector(y).permute(0, 2, 3, 1).to(self.fuse.weight.dtype)

    def forward(self, y: Tensor, size: tuple[int, int]) -> Tensor:
        """Y -> `(N, C, *size)`, what is added to the mask features."""
        with float32(y.device):
            enhanced = enhance(y.to(self.fuse.weight.dtype))
            return self.fuse(F.interpolate(enhanced, size=size, mode="bilinear"))


@ROI_HEADS_REGISTRY.register()
class ContrastMaskROIHeads(OPMaskROIHeads):
    """OPMask's RoI heads with a `ContrastiveHead` beside the mask head, a `PriorMaskHead`."""

    @configurable
    def __init__(
        self, *, contrastive_head: ContrastiveHead, contrast_pooler: ROIPooler, share: float,
        contrast_weight: float, ramp: float, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(**kwargs)
        if not isinstance(getattr(self, "mask_head", None), PriorMaskHead):
            raise ValueError("roi_heads: ContrastMaskROIHeads needs mask_head: PriorMaskHead")
        self.contrastive_head = contrastive_head
        self.contrast_pooler = contrast_pooler
        self.share = share
        self.contrast_weight = contrast_weight
        self.ramp = ramp  # iterations
        use_float32_roi_align(self)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        keys, mask, names = (
            cfg.MODEL.CONTRASTMASK, cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.ROI_HEADS.IN_FEATURES
        )  # fmt: skip
        head = ContrastiveHead(
            input_shape[names[0]].channels, mask.CONV_DIM, keys.NUM_CONV, mask.NORM
        )
        pooler = ROIPooler(
            output_size=2 * mask.POOLER_RESOLUTION,
            scales=[1 / input_shape[name].stride for name in names],
            sampling_ratio=mask.POOLER_SAMPLING_RATIO,
            pooler_type=mask.POOLER_TYPE,
        )
        return {
            **super().from_config(cfg, input_shape),
            "contrastive_head": head,
            "contrast_pooler": pooler,
            "share": keys.SAMPLED,
            "contrast_weight": keys.WEIGHT,
            "ramp": max(keys.RAMP * cfg.SOLVER.WARMUP_ITERS, 1),
        }

    def positives(self, proposals: list[Instances]) -> list[Instances]:
        """All positive ones, also where ground-truth boxes alone may teach the mask head;
        `contrast_by_mask`: those whose points are taken from their mask."""
        found, _ = select_foreground_proposals(proposals, self.num_classes)
        for image in found:
            known = self._has_mask(image)
            image.contrast_by_mask = known
            image.gt_has_mask = known & is_ground_truth(image) if self.masks_on_gt else known
        return found

    def object_mask_prior(
        self, features: dict[str, Tensor], instances: list[Instances], size: tuple[int, int]
    ) -> Tensor:
        """The base's, scaled to [0, 1] after it was resized: resizing commutes with scaling."""
        prior = super().object_mask_prior(features, instances, size)
        return object_mask_prior(prior[:, 0], size, min_max=self.min_max)

    def _forward_mask(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        if self.training:
            instances = self.positives(instances)
        boxes = [i.proposal_boxes if self.training else i.pred_boxes for i in instances]
        maps = [features[f] for f in self.mask_in_features]
        y = self.contrastive_head.encode(self.contrast_pooler([m.detach() for m in maps], boxes))
        x = self.mask_pooler(maps, boxes)
        added = self.contrastive_head(y, (x.shape[2], x.shape[3]))
        x = self.mask_features(x + added.to(x.dtype), features, instances)
        contrast = self.contrast_loss(y, features, instances) if self.training else {}
        found = self.mask_head(x, without_box_features(instances))
        return {**found, **contrast} if self.training else found

    def contrast_loss(
        self, y: Tensor, features: dict[str, Tensor], positives: list[Instances]
    ) -> dict[str, Tensor]:
        """The contrast of all positives, whose weight grows in the first part of a training."""
        size = (y.shape[2], y.shape[3])
        with torch.no_grad():
            cams = super().object_mask_prior(features, positives, size)[:, 0]
            cams = object_mask_prior(cams, size)[:, 0]
            masks = torch.zeros_like(cams, dtype=torch.bool)
            has_mask = cat([image.contrast_by_mask for image in positives])
            known = [image[image.contrast_by_mask] for image in positives]
            cropped = [
                image.gt_masks.crop_and_resize(image.proposal_boxes.tensor, size[0])
                for image in known
                if len(image)
            ]
            if cropped:
                masks[has_mask] = cat(cropped).to(masks)
            points = select_points(cams, masks, edge_map(masks), has_mask)
        with float32(y.device):
            loss, count = contrast_loss(self.contrastive_head.project(y), points, self.share)
        progress = min(max(get_event_storage().iter / self.ramp, 0.25), 1.0)
        return over_all_ranks({"loss_contrast": loss * self.contrast_weight * progress}, count)
