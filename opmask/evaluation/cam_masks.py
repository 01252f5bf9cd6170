"""The class activation map itself as the mask: Table 2, last paragraphs of section 4.4.

The paper compares the "mask AP of our OMP with vanilla CAMs" of a Faster and a Mask R-CNN with the
same box head, and says no more. So here a mask is the object mask prior of
`opmask.model.roi_heads`, for every method alike: the map of the predicted class, from the box
features of the proposal that became the detection, min-max normalised per RoI, bilinear. As the
prior is for OPMask's mask head, it is laid on the refined box. A pixel is in the mask where it
reaches `threshold`; 0.5 is our choice, the one of detectron2 for mask probabilities.
"""

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.structures import Instances
from torch import Tensor

from opmask.errors import UserError
from opmask.model.roi_heads import OPMaskROIHeads, without_box_features

_D2_THRESHOLD = 0.5  # of detectron2's `detector_postprocess`, which pastes the masks


@ROI_HEADS_REGISTRY.register()
class CAMMaskROIHeads(OPMaskROIHeads):
    """Inference of any of our models with the prior in place of the mask branch.

    Sets `pred_masks`, `(N, 1, size, size)` float32 in [0, 0.5 / threshold]: thresholding at 0.5
    after pasting, which is linear, then equals thresholding the pasted map at `threshold`.
    """

    @configurable
    def __init__(self, *, cam_size: int, cam_threshold: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.cam_size = cam_size
        self.cam_threshold = cam_threshold

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        return {
            **super().from_config(cfg, input_shape),
            "cam_size": 2 * cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION,  # as the mask head's output
            "cam_threshold": cfg.MODEL.OPMASK.CAM_THRESHOLD,
        }

    def _forward_mask(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        size = (self.cam_size, self.cam_size)
        masks = self.object_mask_prior(features, instances, size) * (
            _D2_THRESHOLD / self.cam_threshold
        )
        for image, found in zip(instances, masks.split([len(i) for i in instances]), strict=True):
            image.pred_masks = found
        return without_box_features(instances)


def cam_config(cfg: CfgNode, threshold: float = 0.5) -> CfgNode:
    """The config of a trained run (with or without mask head), changed to use CAMs as masks.

    Args:
        cfg: of the run, left as it is. Its weights fit the changed model.
        threshold: part of a normalised map, in (0, 1], from which on a pixel is in the mask.

    Raises:
        UserError: threshold out of range.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"paper.yaml: cam.threshold: {threshold} is not in (0, 1]")
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.ROI_HEADS.NAME = CAMMaskROIHeads.__name__
    cfg.MODEL.OPMASK.CAM_THRESHOLD = float(threshold)
    return cfg
