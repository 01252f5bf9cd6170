"""What is done to a training image at random: sizes and flips, and what small data sets need."""

from detectron2.config import CfgNode
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T

from opmask.errors import UserError


def build_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """The paper's sizes and flips, unless `cfg.INPUT` asks for more.

    SCALE_JITTER [a, b]: large-scale jitter (Ghiasi et al., Simple Copy-Paste, CVPR 2021) in place
    of MIN_SIZE_TRAIN: the image, fitted into a square of MAX_SIZE_TRAIN times a factor from a to b,
    is cropped to that square. COLOUR_JITTER c: brightness, contrast and saturation, each by a
    factor from 1 - c to 1 + c.

    Raises:
        UserError: they are not 0 < a <= b, or not 0 <= c < 1; or there would be masks to crop, for
            whose polygons detectron2 needs a library more.
    """
    colour, jitter = cfg.INPUT.COLOUR_JITTER, list(cfg.INPUT.SCALE_JITTER)
    if not 0 <= colour < 1:
        raise UserError(f"INPUT.COLOUR_JITTER: {colour} is not in [0, 1)")
    augmentations = list(utils.build_augmentation(cfg, is_train=True))
    if jitter:
        if len(jitter) != 2 or not 0 < jitter[0] <= jitter[1]:
            raise UserError(f"INPUT.SCALE_JITTER: {jitter} is not [a, b] with 0 < a <= b")
        if cfg.MODEL.MASK_ON:
            raise UserError("INPUT.SCALE_JITTER crops images, but no masks: it is for warm starts")
        side = cfg.INPUT.MAX_SIZE_TRAIN
        augmentations[0] = T.ResizeScale(*jitter, side, side)  # the first one resizes
        augmentations.append(T.FixedSizeCrop((side, side), pad=False))
    if colour:
        strength = (1 - colour, 1 + colour)
        kinds = (T.RandomBrightness, T.RandomContrast, T.RandomSaturation)
        augmentations += [kind(*strength) for kind in kinds]
    return augmentations
