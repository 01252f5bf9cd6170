"""The method: RoI heads whose box classifier tells the mask head where the object is (section 3).

`OPMaskROIHeads` is detectron2's `StandardROIHeads` with three changes: a box head that ends in
global average pooling, so that class activation maps exist (eq. 1); the map of the RoI's class
added to every channel of the mask features (eq. 2); a mask loss on supervised classes only (eq. 4).
Switched by `cfg.MODEL.OPMASK` (see `opmask.model.config`). What the paper leaves open follows the
authors' code: detached class weights, no bias, min-max normalisation, box features of the proposal;
switches turn each off. Maps to put in the prior's place are in `opmask.model.priors`.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, cat
from detectron2.modeling import ROI_BOX_HEAD_REGISTRY, ROI_HEADS_REGISTRY, ROI_MASK_HEAD_REGISTRY
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    MaskRCNNConvUpsampleHead,
    StandardROIHeads,
    select_foreground_proposals,
)
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference, mask_rcnn_loss
from detectron2.structures import Instances
from torch import Tensor
from torch.nn import functional as F

from opmask.model.precision import float32, use_float32_roi_align
from opmask.model.priors import PRIORS
from opmask.model.ranks import over_all_ranks


def class_activation_map(box_features: Tensor, class_weights: Tensor) -> Tensor:
    """Eq. 1 for one class a RoI: `(N, C, H, W)` features, `(N, C)` weights -> `(N, H, W)` float32.

    The mean of a map plus the class bias is the class logit.
    """
    with float32(box_features.device):
        return torch.einsum("nchw,nc->nhw", box_features.float(), class_weights.float())


def object_mask_prior(cam: Tensor, size: tuple[int, int], *, min_max: bool = True) -> Tensor:
    """The prior M_cam: each `(N, h, w)` map scaled to [0, 1], then resized bilinearly.

    Returns:
        `(N, 1, *size)`. A constant map gives zeros. The scaling is the authors' code's; without
        `min_max` there is none.
    """
    if min_max:
        low, high = cam.amin((1, 2), keepdim=True), cam.amax((1, 2), keepdim=True)
        span = high - low
        cam = (cam - low) / torch.where(span > 0, span, torch.ones_like(span))
    return F.interpolate(cam[:, None], size=size, mode="bilinear", align_corners=False)


# How the `(N, 1, H, W)` prior enters the `(N, C, H, W)` mask features; eq. 2 adds it.
COMBINED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "multiply": torch.mul,
    "concatenate": lambda features, prior: torch.cat([features, prior], dim=1),
}


@ROI_BOX_HEAD_REGISTRY.register()
class CAMBoxHead(FastRCNNConvFCHead):
    """3x3 convolutions whose output, averaged over the RoI, is all the predictors see.

    Called with `(N, C, 7, 7)` RoI features it returns F_box, `(N, C', 7, 7)`, before the pooling.
    """

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        ret = super().from_config(cfg, input_shape)
        return {**ret, "conv_dims": list(cfg.MODEL.OPMASK.BOX_CONV_DIMS), "fc_dims": []}

    @property
    def output_shape(self) -> ShapeSpec:
        return ShapeSpec(channels=self._output_size[0])


@ROI_MASK_HEAD_REGISTRY.register()
class PriorMaskHead(MaskRCNNConvUpsampleHead):
    """detectron2's mask head; runs on all positive RoIs, learns only from those with a mask.

    So the batch statistics see every class, and a RoI without `gt_has_mask` has no say in the loss:
    the mean over the others', of all processes.
    """

    def forward(self, x: Tensor, instances: list[Instances]) -> dict[str, Tensor] | list[Instances]:
        logits = self.layers(x).float()
        if not self.training:
            mask_rcnn_inference(logits, instances)
            return instances
        rows = [i.gt_has_mask.nonzero()[:, 0] for i in instances]
        supervised = [i[own] for i, own in zip(instances, rows, strict=True)]
        first = accumulate((len(i) for i in instances), initial=0)
        taught = logits[cat([n + own for n, own in zip(first, rows, strict=False)])]
        loss = mask_rcnn_loss(taught, supervised, self.vis_period) * self.loss_weight
        return over_all_ranks({"loss_mask": loss}, len(taught))


@ROI_HEADS_REGISTRY.register()
class OPMaskROIHeads(StandardROIHeads):
    """Faster R-CNN, the Mask R-CNN baseline and OPMask, by `MASK_ON` and `OPMASK.PRIOR`.

    Losses are normalised over the RoIs of all processes. detectron2's RPN divides by a constant an
    image, which comes to the same as long as each process has as many images. What still depends on
    how many there are: statistics of plain BN (SyncBN has those of all), padding to the largest
    image of a process, and the random draw of RoIs.
    """

    @configurable
    def __init__(self, *, switches: CfgNode, supervised_classes: list[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.prior = switches.PRIOR
        self.prior_gradients = switches.PRIOR_GRADIENTS
        self.class_gradients = switches.CLASS_GRADIENTS
        self.min_max = switches.PRIOR_MIN_MAX
        self.combined = COMBINED[switches.PRIOR_COMBINED]
        self.kind = PRIORS[switches.PRIOR_KIND]
        self.kind_at_test = PRIORS[switches.PRIOR_KIND_AT_TEST or switches.PRIOR_KIND]
        self.masks_on_gt = {"proposals": False, "gt": True}[switches.MASK_ROIS]
        # By class, as looking up needs no wait for a GPU.
        is_supervised = torch.zeros(self.num_classes, dtype=torch.bool)
        is_supervised[supervised_classes] = True
        self.register_buffer("is_supervised", is_supervised, persistent=False)
        use_float32_roi_align(self)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        opmask = cfg.MODEL.OPMASK
        return {
            **super().from_config(cfg, input_shape),
            "switches": opmask,
            "supervised_classes": list(opmask.SUPERVISED_CLASSES),
        }

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        more = cfg.MODEL.OPMASK.PRIOR and cfg.MODEL.OPMASK.PRIOR_COMBINED == "concatenate"
        wider = {
            name: ShapeSpec(channels=shape.channels + more, stride=shape.stride)
            for name, shape in input_shape.items()
        }
        return super()._init_mask_head(cfg, wider)

    def _sample_proposals(
        self, matched_idxs: Tensor, matched_labels: Tensor, gt_classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """detectron2's sample; where masks are learned on ground-truth boxes with all of them."""
        rows, classes = super()._sample_proposals(matched_idxs, matched_labels, gt_classes)
        if not self.masks_on_gt:
            return rows, classes
        first = len(matched_idxs) - len(gt_classes)  # they come last among the proposals
        truth = torch.arange(first, len(matched_idxs), device=rows.device)
        left_out = truth[~torch.isin(truth, rows)]
        return cat([rows, left_out]), cat([classes, gt_classes[matched_idxs[left_out]]])

    def _box_features(self, features: dict[str, Tensor], boxes: list) -> Tensor:
        return self.box_head(self.box_pooler([features[f] for f in self.box_in_features], boxes))

    def _forward_box(
        self, features: dict[str, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        box_features = self._box_features(features, [p.proposal_boxes for p in proposals])
        with float32(box_features.device):
            predictions = self.box_predictor(box_features.mean((2, 3), dtype=torch.float32))
        per_image = box_features.split([len(p) for p in proposals])
        if self.training:
            losses = self.box_predictor.losses(predictions, proposals)
            for image, maps in zip(proposals, per_image, strict=True):
                image.box_features = maps
            return over_all_ranks(losses, len(box_features))
        detections, kept = self.box_predictor.inference(predictions, proposals)
        for image, maps, rows in zip(detections, per_image, kept, strict=True):
            image.box_features = maps[rows]  # of the proposal that became the detection
        return detections

    def _forward_mask(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """The mask head on the instances found; in training, on those that it may learn from."""
        if not self.mask_on:
            return {} if self.training else without_box_features(instances)
        if self.training:
            instances = self.positives(instances)
        boxes = [i.proposal_boxes if self.training else i.pred_boxes for i in instances]
        x = self.mask_pooler([features[f] for f in self.mask_in_features], boxes)
        x = self.mask_features(x, features, instances)
        return self.mask_head(x, without_box_features(instances))

    def positives(self, proposals: list[Instances]) -> list[Instances]:
        """The positive ones of the sampled proposals, or the ground-truth boxes among them, with
        `gt_has_mask`: which of them may teach the mask head."""
        found, _ = select_foreground_proposals(proposals, self.num_classes)
        if self.masks_on_gt:
            found = [image[is_ground_truth(image)] for image in found]
        for image in found:
            image.gt_has_mask = self._has_mask(image)
        return found

    def mask_features(
        self, x: Tensor, features: dict[str, Tensor], instances: list[Instances]
    ) -> Tensor:
        """What the mask head sees of the pooled `(N, C, H, W)` features: with the prior added."""
        if not self.prior:
            return x
        prior = self.object_mask_prior(features, instances, (x.shape[2], x.shape[3]))
        return self.combined(x, prior).to(x.dtype)

    def _has_mask(self, image: Instances) -> Tensor:
        """Which `(N,)` RoIs may teach the mask head: supervised class, annotated mask."""
        supervised = self.is_supervised[image.gt_classes]
        return supervised & image.gt_has_mask if image.has("gt_has_mask") else supervised

    def object_mask_prior(
        self, features: dict[str, Tensor], instances: list[Instances], size: tuple[int, int]
    ) -> Tensor:
        """The `(N, 1, *size)` prior of `N` RoIs, of the true class in training, else the predicted.

        Instances that come with given boxes and no box features (`forward_with_given_boxes`) get
        those of their boxes.
        """
        classes = cat([i.gt_classes if self.training else i.pred_classes for i in instances])
        if all(i.has("box_features") for i in instances):
            box_features = cat([i.box_features for i in instances])
        else:
            box_features = self._box_features(features, [i.pred_boxes for i in instances])
        if not self.prior_gradients:
            box_features = box_features.detach()
        weights = self.box_predictor.cls_score.weight
        if not self.class_gradients:
            weights = weights.detach()  # the mask trains the features only

        def cam_of(classes: Tensor) -> Tensor:
            return class_activation_map(box_features, weights[classes])

        # Each iteration of training is seeded; a test must not depend on what was tested before.
        kind, random = self.kind, None
        if not self.training:
            kind, random = self.kind_at_test, torch.Generator().manual_seed(len(classes))
        maps = kind(cam_of, classes, self.num_classes, random)
        return object_mask_prior(maps, size, min_max=self.min_max)


def is_ground_truth(image: Instances) -> Tensor:
    """Which `(N,)` positive proposals are the very box of their object."""
    if not len(image):  # of an image without objects, which has no gt_boxes
        return torch.zeros(0, dtype=torch.bool, device=image.proposal_boxes.device)
    return (image.proposal_boxes.tensor == image.gt_boxes.tensor).all(dim=1)


def without_box_features(instances: list[Instances]) -> list[Instances]:
    """`instances`, from which the maps of the box head are removed, in place."""
    for image in instances:
        if image.has("box_features"):
            image.remove("box_features")
    return instances
