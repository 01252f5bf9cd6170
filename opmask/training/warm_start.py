"""Stands in for ImageNet where no pretrained backbone exists: learns from boxes and classes alone.

Two phases, both ordinary detectron2 configs run by `opmask.training.trainer`, shared by all
methods: the backbone classifies cut-out objects; then the whole detector but the mask head learns
on jittered ground-truth RoIs, since the proposals of an untrained RPN would teach a small data set
nothing. Nothing of this applies at `coco` scale.
"""

from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import (
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    build_backbone,
    build_model,
)
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from opmask.integrity import summed_file
from opmask.model.ranks import over_all_ranks


@META_ARCH_REGISTRY.register()
class CropClassifier(nn.Module):
    """Classifies each annotated box, cut out and resized to a square, by the bottom-up network.

    The FPN above it is built and saved, as what follows begins with its weights, but not trained.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, cfg: CfgNode):
        super().__init__()
        self.crop_size = cfg.MODEL.WARM_START.CROP_SIZE
        self.backbone = build_backbone(cfg)
        for name, part in self.backbone.named_children():
            if name != "bottom_up":
                part.requires_grad_(False)  # DDP would wait for its gradients
        self.last = cfg.MODEL.RESNETS.OUT_FEATURES[-1]
        channels = self.backbone.bottom_up.output_shape()[self.last].channels
        self.classifier = nn.Linear(channels, cfg.MODEL.ROI_HEADS.NUM_CLASSES)
        self.register_buffer("pixel_mean", torch.tensor(cfg.MODEL.PIXEL_MEAN).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(cfg.MODEL.PIXEL_STD).view(-1, 1, 1), False)

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        device = self.pixel_mean.device
        images = [
            (x["image"].to(device) - self.pixel_mean) / self.pixel_std for x in batched_inputs
        ]
        boxes = [x["instances"].gt_boxes.tensor.to(device) for x in batched_inputs]
        classes = torch.cat([x["instances"].gt_classes for x in batched_inputs]).to(device)
        size = (self.crop_size, self.crop_size)
        crops = roi_align(ImageList.from_tensors(images).tensor, boxes, size, aligned=True)
        features = self.backbone.bottom_up(crops)[self.last]
        logits = self.classifier(features.mean((2, 3), dtype=torch.float32))
        return over_all_ranks({"loss_cls": F.cross_entropy(logits, classes)}, len(classes))


@PROPOSAL_GENERATOR_REGISTRY.register()
class JitteredRPN(RPN):
    """An RPN that learns as usual, while the RoI heads see jittered true and random boxes."""

    @configurable
    def __init__(self, *, per_box: int, negatives: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.per_box, self.negatives = per_box, negatives

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict) -> dict:
        settings = cfg.MODEL.WARM_START
        return {
            **super().from_config(cfg, input_shape),
            "per_box": settings.JITTERED_PER_BOX,
            "negatives": settings.NEGATIVES_PER_IMAGE,
        }

    def forward(
        self, images: ImageList, features: dict[str, Tensor], gt_instances: list[Instances]
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        self._targets = gt_instances
        return super().forward(images, features, gt_instances)

    def predict_proposals(self, *_: object) -> list[Instances]:
        return [self._proposals(target) for target in self._targets]

    @torch.no_grad()
    def _proposals(self, target: Instances) -> Instances:
        height, width = target.image_size
        true = target.gt_boxes.tensor.repeat(self.per_box, 1)
        corners = torch.rand(self.negatives, 2, 2, device=true.device).sort(dim=1).values
        corners = corners * corners.new_tensor([width, height])
        boxes = Boxes(torch.cat([jitter(true), corners.flatten(1)]))
        boxes.clip(target.image_size)
        boxes = boxes[boxes.nonempty(threshold=1.0)]
        logits = boxes.tensor.new_zeros(len(boxes))
        return Instances(target.image_size, proposal_boxes=boxes, objectness_logits=logits)


def jitter(boxes: Tensor, shift: float = 0.15, scale: float = 0.3) -> Tensor:
    """XYXY boxes `(N, 4)` moved by up to `shift` of their sides, sides scaled by e^±`scale`."""
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    centre = centre + side * shift * (2 * torch.rand_like(side) - 1)
    side = side * torch.exp(scale * (2 * torch.rand_like(side) - 1))
    return torch.cat([centre - side / 2, centre + side / 2], dim=1)


def deepen(shallow: Path, cfg: CfgNode, out: Path) -> Path:
    """Weights for the deeper network of `cfg` that computes what the `shallow` one does.

    Residual blocks that the shallow network lacks get a last normalisation scale of 0: they add
    nothing until they have learned to.
    """
    torch.manual_seed(cfg.SEED)
    model = build_model(cfg)
    given = torch.load(shallow, map_location="cpu", weights_only=True)["model"]
    for name, parameter in model.named_parameters():
        if name.endswith("conv3.norm.weight") and name not in given:
            torch.nn.init.zeros_(parameter)
    model.load_state_dict(given, strict=False)
    with summed_file(out) as file:
        torch.save({"model": model.state_dict()}, file)
    return out
