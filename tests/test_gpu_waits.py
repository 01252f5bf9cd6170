"""How often a training step makes the CPU wait for a GPU: our own code, and all of it."""

import sys
from collections import Counter

import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from tiny import tiny_cfg, write_images
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from opmask.data.coco import load_training_dicts
from opmask.data.loader import build_loader

# Whose result, or its shape, must be known on the CPU.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim"}
TRANSFERS = {"cpu", "tolist"}


def _origin() -> str:
    """ "ours" or "detectron2": whose code is nearest on the stack."""
    frame = sys._getframe(2)
    while frame:
        for owner in ("opmask", "detectron2"):
            if f"/{owner}/" in frame.f_code.co_filename.replace("site-packages", ""):
                return "ours" if owner == "opmask" else owner
        frame = frame.f_back
    return "others"


class CountWaits(TorchDispatchMode):
    """Operators that wait, by whose code calls them; boolean indices are such."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("index", "index_put_", "index_put"):
            flags = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            self.found[_origin(), "nonzero"] += len(flags)
        elif name in WAITING:
            self.found[_origin(), name] += 1
        return func(*args, **(kwargs or {}))


class CountTransfers(TorchFunctionMode):
    """Methods that copy to the CPU; there they copy nothing."""

    def __init__(self, found: Counter):
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in TRANSFERS:
            self.found[_origin(), name] += 1
        return func(*args, **(kwargs or {}))


def test_our_code_waits_twice_an_image(tmp_path):
    """Once for which RoIs have a mask, once for their boxes, in which polygons are drawn."""
    data, cfg = write_images(tmp_path), tiny_cfg()
    dicts, _ = load_training_dicts(data.annotations, data.images, data.supervised_ids)
    torch.manual_seed(0)
    model, batch = build_model(cfg).train(), next(iter(build_loader(dicts, cfg)))
    with EventStorage(), CountWaits() as waits, CountTransfers(waits.found):
        losses = model(batch)
        sum(losses.values()).backward()
    ours = {name: count for (owner, name), count in waits.found.items() if owner == "ours"}
    assert ours == {"nonzero": len(batch), "cpu": len(batch)}
    assert waits.found.total() - sum(ours.values()) < 70  # detectron2's, forward and backward
