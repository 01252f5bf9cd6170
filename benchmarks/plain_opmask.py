"""The method written down plainly, on detectron2's parts: what the fast code is measured against.

Float32 in the default layout, RoIAlign's own gradient, convolutions for the mask head's last
layers; the class activation maps of every RoI and all classes as one 1x1 convolution, of which one
slice is then selected. Training only. It shares no code with `opmask.model.roi_heads` but the
names of parameters, so that both can be given the same weights (`tests/test_benchmarks.py`
compares them).

`PooledBoxHead` gives detectron2's `StandardROIHeads` the same box head: the same model, no prior.
"""

import torch
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import ROI_BOX_HEAD_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Instances
from torch import Tensor, nn
from torch.nn import functional as F


@ROI_BOX_HEAD_REGISTRY.register()
class PlainBoxHead(nn.Sequential):
    """Four 3x3 convolutions with normalisation: `(N, C, 7, 7)` -> F_box, `(N, C', 7, 7)`."""

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec):
        super().__init__()
        channels = input_shape.channels
        for number, width in enumerate(cfg.MODEL.OPMASK.BOX_CONV_DIMS, start=1):
            norm = get_norm(cfg.MODEL.ROI_BOX_HEAD.NORM, width)
            layer = Conv2d(channels, width, 3, padding=1, bias=False, norm=norm, activation=F.relu)
            self.add_module(f"conv{number}", layer)
            channels = width
        self.output_shape = ShapeSpec(channels=channels)


@ROI_BOX_HEAD_REGISTRY.register()
class PooledBoxHead(PlainBoxHead):
    """The same, averaged over the RoI: what `StandardROIHeads` hands to the predictors."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean((2, 3), dtype=torch.float32)


@ROI_HEADS_REGISTRY.register()
class PlainOPMaskHeads(StandardROIHeads):
    """Section 3 in the order in which the paper tells it."""

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]):
        super().__init__(cfg, input_shape)
        classes = torch.as_tensor(cfg.MODEL.OPMASK.SUPERVISED_CLASSES)
        self.register_buffer("supervised_classes", classes, persistent=False)

    def _forward_box(
        self, features: dict[str, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor]:
        boxes = [image.proposal_boxes for image in proposals]
        maps = self.box_head(self.box_pooler([features[f] for f in self.box_in_features], boxes))
        pooled = F.adaptive_avg_pool2d(maps, 1).flatten(1)
        weight = self.box_predictor.cls_score.weight.detach()
        cams = F.conv2d(maps, weight[:, :, None, None])  # eq. 1, every class
        for image, part in zip(proposals, cams.split([len(p) for p in proposals]), strict=True):
            image.cams = part
        return self.box_predictor.losses(self.box_predictor(pooled), proposals)

    def _forward_mask(
        self, features: dict[str, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor]:
        positive = [image[image.gt_classes < self.num_classes] for image in proposals]
        boxes = [image.proposal_boxes for image in positive]
        x = self.mask_pooler([features[f] for f in self.mask_in_features], boxes)
        prior = self.object_mask_prior(positive, x.shape[-2:])
        logits = self.mask_head.layers(x + prior.expand_as(x))[:, 0]  # eq. 2
        has_mask = torch.cat([self._has_mask(image) for image in positive])
        if not has_mask.any():
            return {"loss_mask": logits.sum() * 0}
        supervised = [image[self._has_mask(image)] for image in positive]
        targets = [
            image.gt_masks.crop_and_resize(image.proposal_boxes.tensor, logits.shape[-1])
            for image in supervised
            if len(image)
        ]
        wanted = torch.cat(targets).to(logits)
        return {"loss_mask": F.binary_cross_entropy_with_logits(logits[has_mask], wanted)}

    def object_mask_prior(self, positive: list[Instances], size: tuple[int, int]) -> Tensor:
        """`(N, 1, *size)`: each RoI's map of its true class, scaled to [0, 1] and resized."""
        cam = torch.cat([image.cams[range(len(image)), image.gt_classes] for image in positive])
        low = cam.flatten(1).min(dim=1).values[:, None, None]
        high = cam.flatten(1).max(dim=1).values[:, None, None]
        scaled = (cam - low) / (high - low).clamp_min(1e-12)
        return F.interpolate(scaled[:, None], size=size, mode="bilinear", align_corners=False)

    def _has_mask(self, image: Instances) -> Tensor:
        """Which RoIs the loss is taken on (eq. 4)."""
        supervised = torch.isin(image.gt_classes, self.supervised_classes)
        return supervised & image.gt_has_mask if image.has("gt_has_mask") else supervised
