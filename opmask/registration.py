"""What happens when detectron2 is imported: made to run on current torch, and told of our heads."""

from types import ModuleType


def make_compatible(_module: ModuleType) -> None:
    """When `detectron2` begins to be imported, before any of its submodules."""
    from opmask.model import compat

    compat.apply()


def register_heads(_module: ModuleType) -> None:
    """When `detectron2.modeling` is there."""
    from opmask.model import backbones, frozen_features, roi_heads  # noqa: F401  register with detectron2
    from opmask.training import warm_start  # noqa: F401  registers with detectron2
