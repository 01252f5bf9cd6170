"""Reads weights from files of any origin: data, never code.

PyTorch's own files are read with `weights_only`, Caffe2's pickles by an unpickler that knows
nothing but numpy arrays.
"""

import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray, numeric
from torch import Tensor

from opmask.errors import UserError


def read(path: str) -> dict[str, Any]:
    """The checkpoint in `path`: `model`, a mapping from names to tensors or arrays, and the rest.

    Raises:
        UserError: unreadable, of an unknown kind, or it holds anything but data.
    """
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return {"model": load_file(path)}
        if path.endswith(".pkl"):
            with open(path, "rb") as file:
                return _caffe2(_ArrayUnpickler(file, encoding="latin1").load())
        return _pytorch(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # of a damaged file, whatever its bytes make of the readers
        reason = str(error).split("\n")[0]
        raise UserError(f"{path}: refused: not plain weights ({reason})") from error


def _pytorch(content: Any) -> dict[str, Any]:  # noqa: ANN401
    """A checkpoint of detectron2, of pycls or timm, or a bare state dict."""
    for key in ("model", "model_state", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            return {**content, "model": _named_arrays(content[key])}
    return {"model": _named_arrays(content)}


def _empty(*_: object) -> object:
    """The array that pickle then fills, whatever type is asked for."""
    return multiarray._reconstruct(np.ndarray, (0,), b"b")


_ARRAYS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): None,  # only ever the argument of what makes an array
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    # How Python 3 writes bytes in the old protocols.
    ("_codecs", "encode"): lambda text, _codec="latin1": text.encode("latin1"),
}
for _core in ("numpy.core", "numpy._core"):  # before and since numpy 2
    _ARRAYS[f"{_core}.multiarray", "_reconstruct"] = _empty
    _ARRAYS[f"{_core}.multiarray", "scalar"] = multiarray.scalar
    _ARRAYS[f"{_core}.numeric", "_frombuffer"] = vars(numeric)["_frombuffer"]


class _ArrayUnpickler(pickle.Unpickler):
    """Reads pickled arrays, numbers, text and containers of them; refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        try:
            return _ARRAYS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it calls {module}.{name}") from None


def _caffe2(content: Any) -> dict[str, Any]:  # noqa: ANN401
    """As detectron2 understands a pickle: its own model zoo's, or Caffe2's with Caffe2's names."""
    if isinstance(content, dict) and "model" in content and "__author__" in content:
        return {**content, "model": _named_arrays(content["model"])}
    blobs = content.get("blobs", content) if isinstance(content, dict) else content
    names = {k: v for k, v in _named_arrays(blobs).items() if not k.endswith("_momentum")}
    return {"model": names, "__author__": "Caffe2", "matching_heuristics": True}


def _named_arrays(names: Any) -> dict[str, Any]:  # noqa: ANN401
    """`names`, which are weights: text -> tensor or array of numbers. Else a ValueError."""
    if not isinstance(names, dict):
        raise ValueError(f"a {type(names).__name__} instead of named weights")
    for name, value in names.items():
        numbers = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
        if not (isinstance(name, str) and (numbers or isinstance(value, Tensor))):
            raise ValueError(f"{name!r} is not an array of numbers")
    return dict(names)
