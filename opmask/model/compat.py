"""Lets detectron2 0.6, as PyPI has it, run on current torch, NumPy and Pillow.

The package is built without its C++ sources. Mask R-CNN needs none of them (RoIAlign and NMS are
torchvision's), but 0.6 imports `detectron2._C` at import time. Where the real extension exists, or
where official detectron2 main is installed, nothing here changes anything.
"""

import importlib.util
import sys
import types
import warnings

import numpy as np
from PIL import Image


def apply() -> None:
    """Fill what detectron2 0.6 misses; call before any of its submodules is imported."""
    warnings.filterwarnings("ignore", message=".*torch.jit.script. is deprecated")
    if "detectron2._C" not in sys.modules and not importlib.util.find_spec("detectron2._C"):
        stub = types.ModuleType("detectron2._C")
        stub.__doc__ = "Stands in for detectron2's C++ extension, which this build does not have."
        sys.modules["detectron2._C"] = stub
        vars(sys.modules["detectron2"])["_C"] = stub
    if not hasattr(Image, "LINEAR"):  # renamed in Pillow 10; used by data.transforms
        vars(Image)["LINEAR"] = Image.Resampling.BILINEAR
    for name, builtin in {"bool": bool, "int": int, "float": float}.items():
        if name not in vars(np):  # aliases removed in NumPy 1.24; used by data.build
            setattr(np, name, builtin)
