"""Training batches that depend on the seed and the iteration alone.

Order, flips and sizes of iteration `i` are a function of `(seed, i)`, so a resumed run sees what an
uninterrupted one would have seen, bit for bit, with any number of loader processes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import Instances
from detectron2.utils import comm
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from opmask.data import images
from opmask.data.augmentation import build_augmentations
from opmask.data.coco import TrainingDicts
from opmask.data.polygon_masks import SharedPolygonMasks
from opmask.data.shared import POLYGONS, RLE
from opmask.errors import UserError

NO_MASK = [[0.0] * 6]  # stands in for a polygon that does not exist; `gt_has_mask` is False there


class TrainingBatches(Sampler):
    """Endless batches of `(index, seed)` pairs, images of one batch of like aspect ratio.

    As detectron2's aspect-ratio grouping, but over indices: skipping the batches before `start`
    loads no image. With several processes each takes its share of every batch.

    repeats: how often an epoch has each image, a fraction by chance, as detectron2's repeat factors
    for LVIS; None: once.
    """

    def __init__(
        self,
        landscape: Sequence[bool],
        batch_size: int,
        seed: int,
        start: int = 0,
        repeats: NDArray[np.float64] | None = None,
    ):
        self.landscape, self.batch_size, self.seed, self.start = landscape, batch_size, seed, start
        self.repeats = repeats

    def _epoch(self, rng: np.random.Generator) -> NDArray[np.intp]:
        every = np.arange(len(self.landscape))
        if self.repeats is None:
            return every
        whole, part = np.divmod(self.repeats, 1)
        return np.repeat(every, whole.astype(int) + (rng.random(len(every)) < part))

    def _batches(self) -> Iterator[list[int]]:
        rng = np.random.default_rng(self.seed)
        buckets: dict[bool, list[int]] = {True: [], False: []}
        while True:
            for index in rng.permutation(self._epoch(rng)):
                bucket = buckets[self.landscape[index]]
                bucket.append(int(index))
                if len(bucket) == self.batch_size:
                    yield bucket.copy()
                    bucket.clear()

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rank, world = comm.get_rank(), comm.get_world_size()
        for iteration, batch in enumerate(self._batches()):
            if iteration < self.start:
                continue
            seeds = np.random.SeedSequence([self.seed, iteration]).generate_state(self.batch_size)
            pairs = list(zip(batch, seeds.tolist(), strict=True))
            yield pairs[rank::world]


class TrainingImages(Dataset):
    """Maps `(index, seed)` to detectron2's model input; annotations may lack a mask."""

    def __init__(self, dicts: TrainingDicts, cfg: CfgNode):
        self.dicts = dicts
        self.augmentations = T.AugmentationList(build_augmentations(cfg))
        self.image_format = cfg.INPUT.FORMAT
        self.mask_format = cfg.INPUT.MASK_FORMAT if cfg.MODEL.MASK_ON else None
        if self.mask_format == "polygon":
            _reject_rle(dicts)

    def __len__(self) -> int:
        return len(self.dicts)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        index, seed = item
        record: dict[str, Any] = self.dicts[index]
        np.random.seed(seed % 2**32)  # detectron2's augmentations draw from NumPy's global state
        image = T.AugInput(read_image(record, self.image_format))
        transforms = self.augmentations(image)
        pixels = torch.from_numpy(np.ascontiguousarray(image.image.transpose(2, 0, 1)))
        instances = self._instances(record, transforms, image.image.shape[:2])
        return {"image": pixels, "instances": instances, "image_id": record["image_id"]}

    def _instances(
        self, record: dict[str, Any], transforms: T.TransformList, size: tuple[int, int]
    ) -> Instances:
        """`Instances` with boxes and classes, and masks with `gt_has_mask` unless boxes suffice."""
        objects = [a for a in record["annotations"] if not a["iscrowd"]]
        if self.mask_format is None:
            objects = [{k: v for k, v in a.items() if k != "segmentation"} for a in objects]
        else:
            has_mask = [bool(a.get("segmentation")) for a in objects]
            objects = [{**a, "segmentation": a.get("segmentation") or NO_MASK} for a in objects]
        objects = [utils.transform_instance_annotations(dict(a), transforms, size) for a in objects]
        instances = utils.annotations_to_instances(objects, size, self.mask_format or "polygon")
        if self.mask_format is not None and objects:
            instances.gt_has_mask = torch.tensor(has_mask)
            if self.mask_format == "polygon":
                instances.gt_masks = SharedPolygonMasks(instances.gt_masks.polygons)
        # By box, never by mask: whether an object is seen must not depend on its mask.
        return utils.filter_empty_instances(instances, by_mask=False)


def masked_repeats(masks: NDArray[np.int64], share: float) -> NDArray[np.float64] | None:
    """How often an epoch has each image, so that `share` of them have a mask to learn from.

    masks: (N,) masks of supervised classes an image. None where it changes nothing: there are none,
    or `share` is no more than there are.

    Raises:
        UserError: `share` is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise UserError(f"DATALOADER.MASKED_SHARE: {share} is not in [0, 1]")
    having = masks > 0
    count = int(having.sum())
    if not count or share <= count / len(masks):
        return None
    if share == 1:
        return having.astype(np.float64)
    return np.where(having, share * (len(masks) - count) / ((1 - share) * count), 1.0)


def _reject_rle(dicts: TrainingDicts) -> None:
    """detectron2 cannot turn an RLE into polygons; better known now than at the image's turn."""
    having = np.flatnonzero(dicts.masks(RLE))
    if len(having):
        raise UserError(
            f"{dicts[having[0]]['file_name']}: has a mask in RLE, which needs INPUT.MASK_FORMAT: "
            "bitmask under `config` of the file in scales/"
        )


def read_image(record: dict[str, Any], image_format: str) -> np.ndarray:
    """The upright `(H, W, 3)` uint8 image of a dataset dict, as `opmask.data.images` has it.

    Raises:
        UserError: the file is missing, unusable or of another size than annotated.
    """
    try:
        loaded = images.load(Path(record["file_name"]))
        image = utils.convert_PIL_to_numpy(loaded, image_format)
        utils.check_image_size(record, image)
    except (images.UnusableImage, utils.SizeMismatchError) as error:
        message = " ".join(str(error).split())
        raise UserError(f"{record['file_name']}: cannot use this image: {message}") from error
    return image


def build_loader(
    dicts: TrainingDicts, cfg: CfgNode, *, start: int = 0, workers: int = 0
) -> DataLoader:
    """Endless loader of this process's share of `cfg.SOLVER.IMS_PER_BATCH` images an iteration."""
    if cfg.SOLVER.IMS_PER_BATCH % comm.get_world_size():
        raise UserError(
            f"SOLVER.IMS_PER_BATCH = {cfg.SOLVER.IMS_PER_BATCH} cannot be shared evenly "
            f"by {comm.get_world_size()} processes"
        )
    landscape = dicts.landscape.tolist()
    repeats = masked_repeats(dicts.masks(POLYGONS, RLE), cfg.DATALOADER.MASKED_SHARE)
    batches = TrainingBatches(landscape, cfg.SOLVER.IMS_PER_BATCH, cfg.SEED, start, repeats)
    return DataLoader(
        TrainingImages(dicts, cfg),
        batch_sampler=batches,
        collate_fn=list,
        num_workers=workers,
        pin_memory=cfg.MODEL.DEVICE == "cuda",
        persistent_workers=workers > 0,
    )
