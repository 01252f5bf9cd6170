"""The paper's configuration at full size: 800 pixels, full width, on CPU."""

import math

import pytest
import torch

from benchmarks.session import Job, Session, synthetic_batch

LOSSES = {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"}


def step_and_inference(session: Session) -> set[str]:
    """What must hold of both; the names of the losses besides Mask R-CNN's."""
    model, (image,) = session.model, synthetic_batch(1)
    # Untrained, without ImageNet weights, it moves all boxes beyond the image: keep the anchors.
    torch.nn.init.zeros_(model.proposal_generator.rpn_head.anchor_deltas.weight)
    torch.nn.init.zeros_(model.roi_heads.box_predictor.bbox_pred.weight)
    model.eval()
    model.roi_heads.box_predictor.test_score_thresh = 0.0
    with torch.no_grad():
        (output,) = model([{"image": image["image"], "height": 400, "width": 533}])
    found = output["instances"]
    assert len(found) == 100
    assert found.pred_masks.shape == (100, 400, 533)
    before = model.roi_heads.mask_head.predictor.weight.clone()
    losses = session.step()
    assert losses.keys() >= LOSSES
    assert all(math.isfinite(loss) for loss in losses.values())
    assert not torch.equal(before, model.roi_heads.mask_head.predictor.weight)
    return losses.keys() - LOSSES


@pytest.mark.slow
def test_a_training_step_and_an_inference():
    """Of the largest model that the paper has."""
    assert not step_and_inference(Session(Job("opmask", "R101", "coco", precision="bf16", batch=1)))
