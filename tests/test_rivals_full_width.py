"""Every other system at scale `coco`, R-50: its size, and that it does a step and a test."""

import pytest
from detectron2.modeling import build_model
from parameters import PARAMS
from test_coco_scale import step_and_inference

from benchmarks import session
from benchmarks.session import Job, Session, Variant

# Millions of parameters more than `maskrcnn`, as published code has it (RoI heads of 1024 channels,
# mask heads of 256, 80 classes), and the losses beside those of Mask R-CNN. OPMask's own are the
# three convolutions more of its mask head.
METHODS = {
    "maskx": (1.4, set()),
    "maskx_mlp": (158.7, set()),
    "maskrcnn_boxinst": (0, {"loss_projection", "loss_pairwise"}),
    "opmask_boxinst": (1.8, {"loss_projection", "loss_pairwise"}),
    "deepmarc52": (21.0, set()),
    "deepmarc20": (3.1, set()),
    "shapeprop": (7.2, {"loss_activating", "loss_propagating"}),
    "shapemask": (-1.1, {"loss_prior", "loss_coarse"}),
    "contrastmask": (5.0, {"loss_contrast"}),
    "cpmask_like": (2.9, {"loss_boundary", "loss_affinity"}),
    "opmask_gt_boxinst": (1.8, {"loss_projection", "loss_pairwise"}),
    "shapeprop_opmask": (9.0, {"loss_activating", "loss_propagating"}),
    "deepmarc20_opmask": (3.1, set()),
}


@pytest.fixture(autouse=True)
def _variants(monkeypatch):
    """Of these methods, and for a small image."""
    for name in METHODS:
        monkeypatch.setitem(session.VARIANTS, name, Variant(name))
    monkeypatch.setattr(session, "HEIGHT", 320)
    monkeypatch.setattr(session, "WIDTH", 427)


def parameters(name: str) -> int:
    job = Job(name, scale="coco", device="meta")
    cfg, _ = job.config(job.manifest())
    return sum(p.numel() for p in build_model(cfg).parameters())


@pytest.mark.slow
def test_they_are_as_large_as_published():
    assert METHODS.keys() == {n for n, m in PARAMS["methods"].items() if "components" in m}
    base = parameters("maskrcnn")
    assert round(base / 1e6, 2) == 55.21
    more = {name: round((parameters(name) - base) / 1e6, 1) for name in METHODS}
    assert more == {name: expected for name, (expected, _) in METHODS.items()}


@pytest.mark.full_width
@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_training_step_and_an_inference(name):
    job = Job(name, scale="coco", precision="bf16", batch=1)
    assert step_and_inference(Session(job)) == METHODS[name][1]
