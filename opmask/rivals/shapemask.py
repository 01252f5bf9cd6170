"""ShapeMask: a prior made of typical shapes is refined, coarsely and then for this very instance.

Kuo et al., *ShapeMask: Learning to Segment Novel Objects by Refining Shape Priors* (ICCV 2019),
after the authors' code (tensorflow/tpu, `models/official/detection`, Apache-2.0), of which nothing
is taken over.

Faithful: features of the box scaled by 1.25, on 32x32 cells, reduced to half the mask head's width;
a prior, the mean of K shapes weighted by the softmax of a box embedding; a coarse mask of features
and prior; a fine one of 128x128 of features less their mean in the coarse mask; its first bias; the
losses and their weights; no stopped gradients, but the coarse mask's threshold has none.
Adapted: a RoI head on Mask R-CNN's boxes, taught by the base's positives, not by jittered ground
truth; at test the box is cut out of the fine mask. Shapes are clusters of the masks of supervised
objects in the training's first iterations, at most `MASKS`; until then all are the mean of those
seen. Losses are divided by the objects' area in all sampled RoIs, as there, but novel classes'
masks must not be read: theirs is that of the mean shape. The fine mask's last two layers, with
nothing between them, are computed as one.
Unconfirmed: K, how the clusters were made, if they are binary; initial weights; whether the paper's
numbers are of the code's features, as here, or, as third parties note, of those with the prior.
"""

import math
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ConvTranspose2d, ShapeSpec, cat
from detectron2.modeling import ROI_HEADS_REGISTRY, ROI_MASK_HEAD_REGISTRY
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from fvcore.nn.weight_init import c2_xavier_fill
from torch import Tensor, nn
from torch.nn import functional as F

from opmask.errors import UserError
from opmask.model.precision import float32
from opmask.model.ranks import over_all_ranks
from opmask.model.roi_heads import OPMaskROIHeads, PriorMaskHead, without_box_features

UPSAMPLED = 4  # cells of the fine mask in a row, to one of the coarse
STEPS = 20  # of k-means


def add_config(cfg: CfgNode) -> None:
    """Add the keys `MODEL.SHAPEMASK`, with the original's values where they are known."""
    cfg.MODEL.SHAPEMASK = CfgNode()
    cfg.MODEL.SHAPEMASK.GRID = 32  # cells of features, shapes and coarse masks
    cfg.MODEL.SHAPEMASK.CONTEXT = 1.25  # sides of the outer box, as a multiple of the box's
    cfg.MODEL.SHAPEMASK.PRIORS = 100
    # How long masks are collected, as a multiple of SOLVER.WARMUP_ITERS: by these, as schedules
    # that differ in length share their beginning. It ends as soon as there are so many MASKS.
    cfg.MODEL.SHAPEMASK.COLLECT = 2.0
    cfg.MODEL.SHAPEMASK.MASKS = 4096
    cfg.MODEL.SHAPEMASK.PRIOR_WEIGHT = 0.1  # of the losses
    cfg.MODEL.SHAPEMASK.COARSE_WEIGHT = 1.0


def frames(instances: list[Instances], scale: float) -> tuple[Tensor, Tensor]:
    """Boxes of all instances, proposed or predicted, and the outer ones: scaled about their centres
    and clipped to the image. `(N, 4)` each."""
    key = "proposal_boxes" if instances[0].has("proposal_boxes") else "pred_boxes"
    inner = [image.get(key).tensor for image in instances]
    outer = []
    for image, boxes in zip(instances, inner, strict=True):
        margin = (boxes[:, 2:] - boxes[:, :2]) * ((scale - 1) / 2)
        outer.append(Boxes(boxes + torch.cat([-margin, margin], dim=1)))
        outer[-1].clip(image.image_size)
    return cat(inner), Boxes.cat(outer).tensor


def resample(
    maps: Tensor, source: Tensor, target: Tensor, size: int, *, repeat_rim: bool = False
) -> Tensor:
    """What `(N, C, G, G)` maps of `source` show in `target`, `(N, 4)` boxes: `(N, C, size, size)`.

    Bilinear between cells' middles, beyond which are zeros or what the rim has. Two matrix products
    with the same bits each time, unlike `grid_sample`'s gradient on a GPU.
    """
    cells, pixels = (
        torch.arange(n, device=maps.device, dtype=maps.dtype) for n in (size, maps.shape[-1])
    )
    source, target = source.to(maps.dtype), target.to(maps.dtype)
    at = torch.lerp(target[:, :2, None], target[:, 2:, None], (cells + 0.5) / size)
    low, side = source[:, :2, None], (source[:, 2:] - source[:, :2])[..., None].clamp_min(1e-3)
    at = (at - low) / side * len(pixels) - 0.5
    if repeat_rim:
        at = at.clamp(0, len(pixels) - 1)
    columns, rows = (1 - (at[..., None] - pixels).abs()).clamp_min(0).unbind(1)
    return rows[:, None] @ maps @ columns[:, None].mT


def instance_embedding(features: Tensor, probabilities: Tensor) -> Tensor:
    """`(N, C)` means of `(N, C, H, W)` features where `(N, H, W)` probabilities are over 1/2."""
    inside = (probabilities > 0.5).to(features.dtype)
    total = torch.einsum("nchw,nhw->nc", features, inside)
    return total / (inside.sum((1, 2))[:, None] + 1e-20)  # 0 where none are


def k_means(points: Tensor, centroids: Tensor) -> Tensor:
    """The `(K, D)` centroids of `(N, D)` points by Lloyd's algorithm from given ones; one without
    points stays where it is."""
    for _ in range(STEPS):
        nearest = torch.cdist(points, centroids).argmin(1)
        count = nearest.bincount(minlength=len(centroids))[:, None]
        sums = torch.zeros_like(centroids).index_add_(0, nearest, points)
        centroids = torch.where(count > 0, sums / count.clamp_min(1), centroids)
    return centroids


def shape_priors(masks: Tensor, number: int) -> Tensor:
    """`(number, G, G)` clusters of `(N, G, G)` masks, from different ones drawn with a fixed seed.
    If there are fewer, clusters repeat, which adds nothing to their weighted means."""
    points = masks.flatten(1).float()
    distinct = points.unique(dim=0)
    drawn = torch.randperm(len(distinct), generator=torch.Generator().manual_seed(0))[:number]
    centroids = k_means(points, distinct[drawn]).view(-1, *masks.shape[1:])
    return centroids[torch.arange(number) % len(centroids)]


def cropped(instances: list[Instances], boxes: list[Tensor], size: int) -> Tensor:
    """The masks of all instances in as many `(n, 4)` boxes, bool: `(N, size, size)`."""
    none = torch.zeros(0, size, size, dtype=torch.bool, device=boxes[0].device)
    pairs = zip(instances, boxes, strict=True)
    return cat([none, *(i.gt_masks.crop_and_resize(b, size) for i, b in pairs if len(b))])


@ROI_MASK_HEAD_REGISTRY.register()
class ShapeMaskHead(PriorMaskHead):
    """Class-agnostic masks of features of outer boxes, which `ShapeMaskROIHeads` gives it.

    Its convolutions, half of `CONV_DIM` wide, are first those of the coarse mask, then as many of
    the fine. Its buffers are the shapes and, to resume, the masks that they are made of.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, settings: CfgNode, warmup: int, **kwargs: Any):
        if kwargs["num_classes"] != 1:
            raise UserError("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK: ShapeMaskHead needs true")
        width, self.convs = kwargs["conv_dims"][-1] // 2, len(kwargs["conv_dims"]) - 1
        kwargs["conv_dims"] = [width] * (2 * self.convs + 1)
        super().__init__(ShapeSpec(channels=width), **kwargs)
        self.settings, self.collected_iterations = settings, settings.COLLECT * warmup
        shape = settings.GRID, settings.GRID
        self.priors: Tensor = nn.Buffer(torch.zeros(settings.PRIORS, *shape))
        self.masks: Tensor = nn.Buffer(torch.zeros(settings.MASKS, *shape, dtype=torch.bool))
        self.count: Tensor = nn.Buffer(torch.tensor(0))
        self.collecting = True  # for all that is known without waiting for a GPU
        self.reduce = nn.Conv2d(input_shape.channels, width, 1)
        self.weigh = nn.Linear(width, settings.PRIORS)
        self.of_prior, self.of_coarse = nn.Conv2d(1, width, 1), nn.Conv2d(1, width, 1)
        self.deconv = ConvTranspose2d(width, width, UPSAMPLED, stride=UPSAMPLED)
        for layer in (self.reduce, self.weigh, self.of_prior, self.of_coarse, self.deconv):
            c2_xavier_fill(layer)
        self.coarse = nn.Conv2d(width, 1, 1)
        nn.init.normal_(self.coarse.weight, std=0.001)
        self.coarse.bias = nn.Parameter(torch.full((1,), -math.log(99)))  # a probability of 0.01

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        own = {"settings": cfg.MODEL.SHAPEMASK, "warmup": cfg.SOLVER.WARMUP_ITERS}
        return {**super().from_config(cfg, input_shape), **own}

    @torch.no_grad()
    def collect(self, masks: Tensor) -> None:
        """Make the shapes of this process's `(N, G, G)` masks, the others' and those before. Every
        process calls it in every iteration, as long as it is `collecting`."""
        first, room = int(self.count), len(self.masks)
        self.collecting = first < room
        if not self.collecting:
            return
        given = torch.cat(comm.all_gather(masks.cpu()))[: room - first]
        self.masks[first : first + len(given)] = given.to(self.masks.device)
        self.count += len(given)
        known = self.masks[: first + len(given)].cpu()
        shapes = (known.sum(0) / max(len(known), 1)).expand_as(self.priors)
        ends = len(known) == room or get_event_storage().iter + 1 >= self.collected_iterations
        if ends and len(known):
            # By one process: another machine's sums need not have the same bits.
            made = shape_priors(known, len(self.priors)) if comm.is_main_process() else None
            shapes = comm.all_gather(made)[0]
            self.count.fill_(room)  # no more are wanted
        self.priors = shapes.to(self.priors).contiguous()  # a backward pass may need the old ones

    def layers(self, x: Tensor, inner: Tensor, outer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Prior `(N, G, G)`, and logits of the coarse and of the fine mask, `(N, 4 G, 4 G)`, all in
        the `outer` boxes, of their `(N, C, G, G)` features. Boxes: `(N, 4)`."""
        x, grid = self.reduce(x), x.shape[-1]
        with float32(x.device):
            features = x.to(self.weigh.weight.dtype)
            inside = resample(features.new_ones(len(x), 1, grid, grid), inner, outer, grid)[:, 0]
            embedding = torch.einsum("nchw,nhw->nc", features, inside) / grid**2
            weights = self.weigh(embedding).softmax(1)
            shapes = torch.einsum("nk,khw->nhw", weights, self.priors)
            prior = resample(shapes[:, None], inner, outer, grid)
        y = x + self.of_prior(prior)
        for layer in self.conv_norm_relus[: self.convs]:
            y = layer(y)
        coarse = self.coarse(y)
        with float32(x.device):
            p = coarse.to(features.dtype).sigmoid()
            y = features - instance_embedding(features, p[:, 0])[..., None, None]
            filters = self.predictor.weight[:, :, 0, 0]
            kernel = torch.einsum("ioyx,po->ipyx", self.deconv.weight, filters)
            bias = filters @ self.deconv.bias + self.predictor.bias
        y = y + self.of_coarse(p)
        for layer in self.conv_norm_relus[self.convs :]:
            y = layer(y)
        fine = F.conv_transpose2d(y, kernel, bias, stride=UPSAMPLED)  # predictor(deconv(y))
        return prior[:, 0], coarse[:, 0], fine[:, 0]

    def forward(self, x: Tensor, instances: list[Instances]) -> dict[str, Tensor] | list[Instances]:
        inner, outer = frames(instances, self.settings.CONTEXT)
        maps = [found.float() for found in self.layers(x, inner, outer)]
        if self.training:
            return self.losses(maps, inner, outer, instances)
        fine = maps[2][:, None]
        in_box = resample(fine, outer, inner, fine.shape[-1], repeat_rim=True)
        mask_rcnn_inference(in_box, instances)
        return instances

    def losses(
        self, maps: list[Tensor], inner: Tensor, outer: Tensor, instances: list[Instances]
    ) -> dict[str, Tensor]:
        """Of what `layers` found: errors summed over RoIs with a mask, by all RoIs' object area."""
        taught = cat([image.gt_has_mask for image in instances])
        known = [image[image.gt_has_mask] for image in instances]
        boxes = list(outer[taught].split([len(image) for image in known]))
        prior, coarse, fine = (found[taught] for found in maps)
        small, large = (cropped(known, boxes, one.shape[-1]).to(one) for one in (prior, fine))
        of_box, of_outer = (Boxes(box[~taught]).area() for box in (inner, outer))
        unknown = (of_box / of_outer.clamp_min(1e-3)).sum() * self.priors.mean()
        bce, keys = F.binary_cross_entropy_with_logits, self.settings
        errors = {
            "loss_prior": (keys.PRIOR_WEIGHT / 2 * (prior - small).square().sum(), small),
            "loss_coarse": (keys.COARSE_WEIGHT * bce(coarse, small, reduction="sum"), small),
            "loss_mask": (self.loss_weight * bce(fine, large, reduction="sum"), large),
        }
        losses: dict[str, Tensor] = {}
        for name, (error, target) in errors.items():
            area = max(int(target.sum() + unknown * target.shape[-1] ** 2), 1)
            losses |= over_all_ranks({name: error / area}, area)
        return losses


@ROI_HEADS_REGISTRY.register()
class ShapeMaskROIHeads(OPMaskROIHeads):
    """The RoI heads that show a `ShapeMaskHead` each RoI with its surroundings, and at first the
    masks of all supervised objects."""

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION = cfg.MODEL.SHAPEMASK.GRID
        found = super()._init_mask_head(cfg, input_shape)
        if not isinstance(found.get("mask_head"), ShapeMaskHead):
            raise ValueError("roi_heads: ShapeMaskROIHeads needs mask_head: ShapeMaskHead")
        return found

    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        if self.mask_head.collecting:
            known = [image[self._has_mask(image)] for image in targets]
            boxes = [image.gt_boxes.tensor for image in known]
            self.mask_head.collect(cropped(known, boxes, self.mask_head.settings.GRID))
        return super().label_and_sample_proposals(proposals, targets)

    def _forward_mask(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        if self.training:
            instances = self.positives(instances)
        _, outer = frames(instances, self.mask_head.settings.CONTEXT)
        boxes = [Boxes(own) for own in outer.split([len(image) for image in instances])]
        x = self.mask_pooler([features[f] for f in self.mask_in_features], boxes)
        x = self.mask_features(x, features, instances)
        return self.mask_head(x, without_box_features(instances))

    def object_mask_prior(
        self, features: dict[str, Tensor], instances: list[Instances], size: tuple[int, int]
    ) -> Tensor:
        """The base's, which is of the box, in the frame of the outer box."""
        prior = super().object_mask_prior(features, instances, size)
        return resample(prior, *frames(instances, self.mask_head.settings.CONTEXT), size[0])
