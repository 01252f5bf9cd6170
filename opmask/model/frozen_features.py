"""Detectors of which RoI heads alone learn, on features that are computed once an image.

With backbone, FPN and RPN as they are, the features and proposals of an image depend on its pixels
alone. On CPUs they are most of a training step, so they are kept on disk. For small data sets whose
boxes were learned before (a scale's warm start); the paper trains all but the backbone's stem.
"""

import hashlib
import io
import os
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from opmask.errors import UserError

Record = dict[str, Tensor]  # of an image: `boxes` and `logits` of its proposals, maps by name
_CHECKSUM = 4  # bytes of a file before the record
# What features and proposals are made by, beside the weights.
_SETTINGS = ("BACKBONE", "FPN", "RESNETS", "TIMM", "ANCHOR_GENERATOR", "PROPOSAL_GENERATOR", "RPN",
             "PIXEL_MEAN", "PIXEL_STD")  # fmt: skip


@META_ARCH_REGISTRY.register()
class FrozenFeaturesRCNN(GeneralizedRCNN):
    """detectron2's model, its backbone with the FPN and its RPN frozen, statistics included.

    Training images pass through these one by one, so that features are the same in every batch;
    proposals are those of a test (`RPN.POST_NMS_TOPK_TEST`). `keep_in` says where they are kept.
    """

    @configurable
    def __init__(self, *, made_by: str, **kwargs: Any):
        """Raises UserError if proposals depend on more than the image, as those of a warm start."""
        super().__init__(**kwargs)
        self.made_by = made_by
        self.kept: KeptRecords | None = None
        if type(self.proposal_generator) is not RPN:
            raise UserError(
                f"MODEL.PROPOSAL_GENERATOR.NAME: {type(self.proposal_generator).__name__} is of "
                f"ground-truth boxes; {type(self).__name__} keeps proposals of images: RPN"
            )
        for part in (self.backbone, self.proposal_generator):
            part.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        settings = {name: cfg.MODEL[name] for name in _SETTINGS}
        made_by = f"{settings} {cfg.SOLVER.PRECISION} {torch.__version__}"
        return {**super().from_config(cfg), "made_by": made_by}

    def keep_in(self, folder: Path) -> None:
        """Keep what training images give in a folder there, named by all that makes it: weights,
        settings, torch. To be called once the weights are loaded."""
        digest = hashlib.sha256(self.made_by.encode())
        for part in (self.backbone, self.proposal_generator):
            for name, value in part.state_dict().items():
                digest.update(name.encode())
                digest.update(value.cpu().contiguous().numpy().tobytes())
        self.kept = KeptRecords(folder / digest.hexdigest()[:16])

    def train(self, mode: bool = True) -> "FrozenFeaturesRCNN":
        """As any module's, but for what is frozen."""
        super().train(mode)
        self.backbone.eval()
        self.proposal_generator.eval()
        return self

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:  # noqa: ANN401
        """Losses of the RoI heads in training, else detections, as detectron2 has them."""
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        records = [self._record(image) for image in batched_inputs]
        features = {
            name: _batch([r[name] for r in records]) for name in self.backbone.output_shape()
        }
        proposals = [
            Instances(size, proposal_boxes=Boxes(r["boxes"]), objectness_logits=r["logits"])
            for size, r in zip(images.image_sizes, records, strict=True)
        ]
        truth = [image["instances"].to(self.device) for image in batched_inputs]
        _, losses = self.roi_heads(images, features, proposals, truth)
        return losses

    def _record(self, image: dict[str, Any]) -> Record:
        if self.kept is None:
            return self._compute(image)
        pixels = image["image"]
        named = repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes()
        key = hashlib.sha256(named).hexdigest()
        if self.kept.trusted and (found := self.kept.read(key)) is not None:
            return {name: value.to(self.device) for name, value in found.items()}
        record = self._compute(image)
        self.kept.keep(key, {name: value.cpu() for name, value in record.items()})
        return record

    @torch.no_grad()
    def _compute(self, image: dict[str, Any]) -> Record:
        images = self.preprocess_image([image])
        features = self.backbone(images.tensor)
        (proposals,), _ = self.proposal_generator(images, features, None)
        record = {name: maps[0].contiguous() for name, maps in features.items()}
        boxes, logits = proposals.proposal_boxes.tensor, proposals.objectness_logits
        return {**record, "boxes": boxes, "logits": logits}


@META_ARCH_REGISTRY.register()
class FrozenBoxesRCNN(FrozenFeaturesRCNN):
    """The same with its box head frozen, too: the mask head alone learns, on boxes and priors that
    all methods share and that no mask changes. Box losses are those of the frozen head.

    A detector without masks (Faster R-CNN) has nothing else to learn: its box head does.

    A deviation from the paper, whose box head learns of masks, too (section 4.4).
    """

    @configurable
    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        for part in self._frozen_heads():
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> "FrozenBoxesRCNN":
        """As any module's, but for what is frozen."""
        super().train(mode)
        for part in self._frozen_heads():
            part.eval()
        return self

    def _frozen_heads(self) -> tuple[nn.Module, ...]:
        heads = self.roi_heads
        return (heads.box_head, heads.box_predictor) if heads.mask_on else ()


def _batch(maps: Sequence[Tensor]) -> Tensor:
    """Maps `(C, h, w)` of single images as `(N, C, H, W)` of a batch, zero beyond an image."""
    channels, height, width = map(max, zip(*(one.shape for one in maps), strict=True))
    batch = maps[0].new_zeros((len(maps), channels, height, width))
    batch = batch.contiguous(memory_format=torch.channels_last)
    for row, one in zip(batch, maps, strict=True):
        row[:, : one.shape[1], : one.shape[2]] = one
    return batch


class KeptRecords:
    """Records on disk, by key, each with its checksum; several processes may share the folder.

    `trusted` once a record found there was just what is computed now: other code or another
    processor may compute others, and then none of them is used.
    """

    def __init__(self, folder: Path):
        self.folder, self.trusted = folder, False

    def read(self, key: str) -> Record | None:
        """The record of `key`; None where there is none, or a damaged one."""
        try:
            content = (self.folder / key).read_bytes()
        except OSError:
            return None
        if zlib.crc32(content[_CHECKSUM:]).to_bytes(_CHECKSUM) != content[:_CHECKSUM]:
            return None
        return torch.load(io.BytesIO(content[_CHECKSUM:]), map_location="cpu", weights_only=True)

    def keep(self, key: str, record: Record) -> None:
        """Write a record just computed, or compare it with the one that is there."""
        found = self.read(key)
        if found is not None:
            self.trusted = all(torch.equal(value, record[name]) for name, value in found.items())
            if self.trusted:
                return
            warnings.warn(f"{self.folder}: its features are of other code; made anew", stacklevel=2)
            shutil.rmtree(self.folder, ignore_errors=True)
        buffer = io.BytesIO()
        torch.save(record, buffer)
        content = buffer.getvalue()
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
            file.write(zlib.crc32(content).to_bytes(_CHECKSUM) + content)
        os.replace(file.name, self.folder / key)
