"""Names for people of what params.yaml, the csv files and the code call by keys.

Pages, figures and the claims ledger take them from here, so that one thing has one name.
"""

from collections.abc import Iterable
from typing import Final


class _Backbones(dict[str, str]):
    """One that the paper does not have is named by its key in paper.yaml."""

    def __missing__(self, name: str) -> str:
        return f"{name}-FPN"


BASELINE, OURS = "maskrcnn", "opmask"  # methods
DIFFERENCE = "difference"  # in a column of methods: OPMask minus its baseline
NOT_RUN: Final = "not run"
BACKBONES = _Backbones({"R50": "R-50-FPN", "R101": "R-101-FPN"})  # the paper's
DIRECTIONS = {"nonvoc": "non-voc → voc", "voc": "voc → non-voc"}  # by supervised set
WITH_MASKS = {"voc": 20, "voc20": 40, "nonvoc": 60, "all": 80}  # classes, by supervised set
METHODS = {BASELINE: "Our Mask R-CNN", OURS: "OPMask"}  # the paper's, as its Table 1 has them
MODELS = {
    BASELINE: "Mask R-CNN",
    OURS: "OPMask",
    "maskrcnn7": "Mask R-CNN, 7 convs",
    "opmask_detached": "OPMask, no mask gradients",
    "fasterrcnn": "Faster R-CNN",
    "opmask_gaussian": "a Gaussian for the map",
    "opmask_constant": "a constant for the map",
    "opmask_shuffled": "another RoI's map",
    "opmask_shuffled_test": "another RoI's map, at test only",
    "opmask_random": "another class's map",
    "opmask_random_test": "another class's map, at test only",
    "opmask_unscaled": "no min-max scaling",
    "opmask_multiplied": "multiplied, not added",
    "opmask_concatenated": "a channel, not added",
    "opmask_attached": "masks train the classifier",
    "maskrcnn_gt": "Mask R-CNN (masks on true boxes)",
    "opmask_gt": "OPMask (masks on true boxes)",
    "maskrcnn_specific": "Mask R-CNN, class-specific",
    "maskx": "Mask^X R-CNN (no MLP)",
    "maskx_mlp": "Mask^X R-CNN",
    "maskrcnn_boxinst": "Mask R-CNN + BoxInst's losses",
    "opmask_boxinst": "OPMask + BoxInst's losses",
    "deepmarc52": "Deep-MARC (hourglass-52)",
    "deepmarc20": "Deep-MARC (hourglass-20)",
    "shapeprop": "ShapeProp",
    "shapemask": "ShapeMask",
    "contrastmask": "ContrastMask on OPMask",
    "opmask_gt_boxinst": "OPMask + BoxInst's losses (masks on true boxes)",
    "shapeprop_opmask": "ShapeProp + OPMask's prior",
    "deepmarc20_opmask": "Deep-MARC (hourglass-20) + OPMask's prior",
    "cpmask_like": "CPMask-like",
}

METRICS = {"IoU": "IoU in true boxes"}


def place(backbone: str, supervised: str) -> str:
    """For example `R-50-FPN, voc → non-voc`."""
    return f"{BACKBONES[backbone]}, {DIRECTIONS[supervised]}"


def with_others(names: Iterable[str]) -> list[str]:
    """The paper's backbones, then the others among `names`."""
    return list(dict.fromkeys([*BACKBONES, *names]))


def shown_backbones(ran: Iterable[str]) -> list[str]:
    """Those to show people: without the paper's where only others `ran`."""
    ran = list(ran)
    names = with_others(ran)
    others = names[len(BACKBONES) :]
    return others if others and not set(BACKBONES) & set(ran) else names
