"""OPMask on detectron2: `import opmask` is enough for detectron2 to know its heads.

Importing this package costs nothing: analysis code uses `opmask.*` without torch. The heads are
registered, and detectron2 0.6 is made to run on current torch, when detectron2 itself is imported.
"""

import wrapt

wrapt.register_post_import_hook("opmask.registration:make_compatible", "detectron2")
wrapt.register_post_import_hook("opmask.registration:register_heads", "detectron2.modeling")
