"""OPMask on detectron2: `import opmask` is enough for detectron2 to know its heads.

Importing this package costs nothing: analysis code uses `opmask.*` without torch. The heads are
registered, and detectron2 0.6 is made to run on current torch, when detectron2 itself is imported.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import wrapt

if TYPE_CHECKING:
    from opmask.evaluation.predictor import Predictor

wrapt.register_post_import_hook("opmask.registration:make_compatible", "detectron2")
wrapt.register_post_import_hook("opmask.registration:register_heads", "detectron2.modeling")


def load(
    run: Path | str,
    *,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
    priors: bool = False,
    device: str = "auto",
) -> "Predictor":
    """A trained run, ready to be called with images: `opmask.predict.load`. Imports torch."""
    # By a name that is put together, as all stages import this package and none of them predicts.
    predict = import_module(f"{__name__}.predict")
    settings = {"threshold": threshold, "mask_threshold": mask_threshold, "priors": priors}
    return predict.load(run, device=device, **settings)
