"""BoxInst's two losses, by which boxes alone teach masks, on the RoIs that have no mask.

Tian et al., *BoxInst* (CVPR 2021), after the authors' code (aim-uofa/AdelaiDet, for non-commercial
use), of which nothing is taken over. There it trains CondInst without any mask; here it adds to the
mask head of any method of ours, with or without OPMask's prior, what novel classes' boxes tell.

Faithful: the projection loss (Dice of a mask's and its box's shadow on either axis); the pairwise
loss (of eight neighbours two cells away, those of like colour in CIE Lab have one label), its
threshold, weights and ramp; no likeness to what lies in the image's bottom margin.
Adapted (a design of ours): both losses in the RoI's frame, at the mask's resolution. So the RoI may
cut the box off, unless it is the box itself (`mask_rois: gt`), neighbours beyond the RoI are none,
and two cells are a share of the RoI, not eight pixels. Colours are the means of cells, not of 4x4
pixels, and not rounded to bytes. The margin is a share of the image's height, the original's 10 of
480 pixels, as images are resized; the ramp is counted in warm-ups of the learning rate, for
schedules of other lengths.
Unconfirmed: any result on partially supervised classes; nobody has published one.
"""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, cat
from detectron2.modeling import ROI_HEADS_REGISTRY, ROI_MASK_HEAD_REGISTRY
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from opmask.model.precision import float32
from opmask.model.ranks import over_all_ranks
from opmask.model.roi_heads import OPMaskROIHeads, PriorMaskHead

# Linear sRGB to CIE XYZ, and the XYZ of its white, D65 seen by the 2 degree observer.
_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)


def add_config(cfg: CfgNode) -> None:
    """Add the keys `MODEL.BOXINST`, with the original's values."""
    cfg.MODEL.BOXINST = CfgNode()
    cfg.MODEL.BOXINST.PROJECTION = 1.0  # weight of the projection loss
    cfg.MODEL.BOXINST.PAIRWISE = 1.0  # … of the pairwise loss, at the end of its ramp
    # Length of this ramp, from the first iteration, as a multiple of SOLVER.WARMUP_ITERS: by these,
    # as schedules that differ in length share their beginning.
    cfg.MODEL.BOXINST.RAMP = 10.0
    cfg.MODEL.BOXINST.DILATION = 2  # cells between neighbours
    cfg.MODEL.BOXINST.SIMILARITY = 0.3  # from which on neighbours have one label
    # Share of the image's height at its bottom that is like nothing: often a border in COCO.
    cfg.MODEL.BOXINST.BOTTOM = 10 / 480


def lab(rgb: Tensor) -> Tensor:
    """`(N, 3, H, W)` sRGB, 0 to 255, as CIE Lab."""
    rgb = rgb.clamp(0, 255) / 255
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    matrix = rgb.new_tensor(_XYZ) / rgb.new_tensor(_WHITE)[:, None]
    with float32(rgb.device):
        xyz = torch.einsum("dc,nchw->ndhw", matrix, linear)
    x, y, z = torch.where(xyz > 0.008856, xyz ** (1 / 3), 7.787 * xyz + 16 / 116).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def neighbours(maps: Tensor, dilation: int) -> Tensor:
    """What `(N, C, H, W)` maps have at each cell's eight neighbours, row by row, 0 where there are
    none: `(N, C, 8, H, W)`."""
    windows = F.unfold(maps, 3, dilation, padding=dilation)
    windows = windows.view(*maps.shape[:2], 9, *maps.shape[2:])
    return torch.cat([windows[:, :, :4], windows[:, :, 5:]], dim=2)


def similarity(colours: Tensor, valid: Tensor, dilation: int) -> Tensor:
    """How like each neighbour is, 0 to 1, `(N, 8, H, W)`, by `(N, 3, H, W)` colours in Lab.

    valid: `(N, H, W)`, 1 where there is an image, else 0.
    """
    distances = (neighbours(colours, dilation) - colours[:, :, None]).norm(dim=1)
    return torch.exp(-distances / 2) * neighbours(valid[:, None].to(colours.dtype), dilation)[:, 0]


def projections(logits: Tensor, boxes: Tensor) -> Tensor:
    """The Dice losses `(2, N)` of masks' and boxes' maxima, both `(N, H, W)`: over columns, over
    rows."""
    shadows = [(logits.sigmoid().max(dim).values, boxes.max(dim).values) for dim in (2, 1)]
    return torch.stack(
        [
            1 - 2 * (mask * box).sum(1) / (mask.square().sum(1) + box.square().sum(1) + 1e-5)
            for mask, box in shadows
        ]
    )


def disagreement(logits: Tensor, dilation: int) -> Tensor:
    """`(N, 8, H, W)`: minus the log-probability that a cell of the `(N, H, W)` masks and its
    neighbour have one label; 0 if there is no neighbour."""
    both_in, both_out = (
        log[:, None] + neighbours(log[:, None], dilation)[:, 0]
        for log in (F.logsigmoid(logits), F.logsigmoid(-logits))
    )
    return -torch.logaddexp(both_in, both_out)


def centres(boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """x `(N, W)` and y `(N, H)` of the middles of `size` cells in `(N, 4)` boxes."""
    low, high = boxes[:, :2, None], boxes[:, 2:, None]
    columns, rows = ((torch.arange(n, device=boxes.device) + 0.5) / n for n in (size[1], size[0]))
    sides = high - low
    return low[:, 0] + columns * sides[:, 0], low[:, 1] + rows * sides[:, 1]


def inside(boxes: Tensor, rois: Tensor, size: tuple[int, int]) -> Tensor:
    """Which of `size` cells of RoIs have their middle in a box, `(N, H, W)`; both `(N, 4)`."""
    x, y = centres(rois, size)
    left, top, right, bottom = boxes[..., None].unbind(1)
    columns, rows = (x >= left) & (x <= right), (y >= top) & (y <= bottom)
    return rows[:, :, None] & columns[:, None]


@ROI_MASK_HEAD_REGISTRY.register()
class BoxInstMaskHead(PriorMaskHead):
    """The baseline's mask head, whose RoIs without a mask learn from their object's box.

    Needs what `BoxInstROIHeads` adds to the instances: `in_box` and `similar`.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, settings: CfgNode, ramp: float, **kwargs: Any):
        super().__init__(input_shape, **kwargs)
        self.settings, self.ramp = settings, ramp

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        return {
            **super().from_config(cfg, input_shape),
            "settings": cfg.MODEL.BOXINST,
            "ramp": cfg.MODEL.BOXINST.RAMP * cfg.SOLVER.WARMUP_ITERS,
        }

    def layers(self, x: Tensor) -> Tensor:
        self.latest = super().layers(x)
        return self.latest

    def forward(self, x: Tensor, instances: list[Instances]) -> dict[str, Tensor] | list[Instances]:
        found = super().forward(x, instances)
        logits = self.latest.float()
        del self.latest  # with all that led to it
        if isinstance(found, list):
            return found
        weak = ~cat([i.gt_has_mask for i in instances])
        classes = cat([i.gt_classes for i in instances])[weak]
        logits = logits[weak]
        logits = logits[torch.arange(len(logits)), classes if logits.shape[1] > 1 else 0]
        in_box, similar = (
            cat([i.get(key) for i in instances])[weak] for key in ("in_box", "similar")
        )
        return found | self.box_losses(logits, in_box, similar)

    def box_losses(self, logits: Tensor, in_box: Tensor, similar: Tensor) -> dict[str, Tensor]:
        """Of all processes' RoIs without a mask; of `(N, H, W)` logits and cells in the box, and
        `(N, 8, H, W)` like neighbours."""
        count = len(logits)
        projection = projections(logits, in_box.to(logits.dtype)).sum() / max(count, 1)
        pairs = similar & in_box[:, None]
        total = int(pairs.sum())
        pairwise = (disagreement(logits, self.settings.DILATION) * pairs).sum() / max(total, 1)
        ramp = min(get_event_storage().iter / max(self.ramp, 1), 1)
        return {
            **over_all_ranks({"loss_projection": projection * self.settings.PROJECTION}, count),
            **over_all_ranks({"loss_pairwise": pairwise * self.settings.PAIRWISE * ramp}, total),
        }


@ROI_HEADS_REGISTRY.register()
class BoxInstROIHeads(OPMaskROIHeads):
    """The RoI heads that tell a `BoxInstMaskHead` each RoI's box and colours."""

    @configurable
    def __init__(self, *, boxinst: CfgNode, pixels: dict[str, Any], **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(getattr(self, "mask_head", None), BoxInstMaskHead):
            raise ValueError("roi_heads: BoxInstROIHeads needs mask_head: BoxInstMaskHead")
        self.boxinst = boxinst
        self.bgr = pixels["order"] == "BGR"
        for name in ("mean", "std"):
            values = torch.tensor(pixels[name]).view(-1, 1, 1)
            self.register_buffer(f"pixel_{name}", values, persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        mean, std = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
        return {
            **super().from_config(cfg, input_shape),
            "boxinst": cfg.MODEL.BOXINST,
            "pixels": {"mean": mean, "std": std, "order": cfg.INPUT.FORMAT},
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        return super().forward(images, {**features, "image": images.tensor}, proposals, targets)

    def mask_features(
        self, x: Tensor, features: dict[str, Tensor], instances: list[Instances]
    ) -> Tensor:
        if self.training:
            self.add_targets(features["image"], instances, (2 * x.shape[2], 2 * x.shape[3]))
        return super().mask_features(x, features, instances)

    @torch.no_grad()
    def add_targets(
        self, images: Tensor, instances: list[Instances], size: tuple[int, int]
    ) -> None:
        """Give positive proposals on the `(B, 3, H, W)` normalised images, in place, `in_box`,
        which `(N, *size)` cells lie in the object's box, and `similar`, which neighbours are like
        `(N, 8, *size)`."""
        rois = [i.proposal_boxes.tensor for i in instances]
        cells = roi_align(images, rois, size, aligned=True) * self.pixel_std + self.pixel_mean
        colours = lab(cells.flip(1) if self.bgr else cells)
        for image, own, found in zip(
            instances, rois, colours.split([len(r) for r in rois]), strict=True
        ):
            last = (1 - self.boxinst.BOTTOM) * image.image_size[0]
            valid = (centres(own, size)[1] < last)[:, :, None].expand(-1, *size)
            alike = similarity(found, valid, self.boxinst.DILATION)
            image.similar = alike >= self.boxinst.SIMILARITY
            # An image without objects has no gt_boxes.
            image.in_box = inside(image.gt_boxes.tensor if len(image) else own, own, size)
