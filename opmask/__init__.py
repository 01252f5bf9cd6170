"""OPMask on detectron2: `import opmask` is enough for detectron2 to know its heads.

Importing this package costs nothing: analysis code uses `opmask.*` without torch. The heads are
registered, and detectron2 0.6 is made to run on current torch, when detectron2 itself is imported.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING

import wrapt

if TYPE_CHECKING:
    from pathlib import Path

    from opmask.evaluation.predictor import Predictor

wrapt.register_post_import_hook("opmask.registration:make_compatible", "detectron2")
wrapt.register_post_import_hook("opmask.registration:register_heads", "detectron2.modeling")


def load(
    run: "Path | str", *, threshold: float = 0.5, priors: bool = False, device: str = "auto"
) -> "Predictor":
    """A trained run, ready to be called with images: `docs/predict.md`. Imports torch.

    Args:
        run: the folder that training left, or a file of weights in it or below it.
        threshold: score, 0 to 1, above which a detection counts.
        priors: also compute the object mask prior of every detection (of a run without one the
            class activation map), which takes about as long as the detections.
        device: "auto" (a GPU if there is one), or what torch calls it.

    Raises:
        opmask.errors.UserError: the run is incomplete or damaged, or there is no such device.
    """
    # Named, not imported: no stage that imports this package rests on the predictor.
    predictor: Predictor = resolve_name("opmask.evaluation.predictor:load")(
        run, threshold=threshold, priors=priors, device=device
    )
    return predictor
