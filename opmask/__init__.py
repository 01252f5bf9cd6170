"""OPMask on detectron2: `import opmask` is enough for detectron2 to know its heads.

Importing this package costs nothing: analysis code uses `opmask.*` without torch. The heads are
registered, and detectron2 0.6 is made to run on current torch, when detectron2 itself is imported.
"""

import wrapt


def _make_compatible(_module: object) -> None:
    from opmask import compat

    compat.apply()


def _register_heads(_module: object) -> None:
    from opmask import backbones, roi_heads  # noqa: F401  register with detectron2
    from opmask.training import warm_start  # noqa: F401  registers with detectron2


wrapt.register_post_import_hook(_make_compatible, "detectron2")
wrapt.register_post_import_hook(_register_heads, "detectron2.modeling")
