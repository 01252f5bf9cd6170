"""Part `inference`: what a model finds on a GPU, against the same on the CPU, and how fast."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import Tensor, nn

from benchmarks.gpu.parity import cases, copied, trained
from benchmarks.gpu.setting import Row, Setting
from benchmarks.session import Job, Session

Found = list[tuple[Instances, Tensor]]


def inference(setting: Setting) -> Iterator[Row]:
    """How much of what the CPU detects is detected again, IoU of the masks of true boxes; then
    images a second of what is timed, a hundred objects each."""
    session = trained(setting)
    nn.init.normal_(session.model.roi_heads.box_predictor.cls_score.weight)  # no near ties
    session.cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    batch, state = next(session.batches), session.model.state_dict()
    reference: Found = []
    for device, precision in cases(setting):
        found = _detected(copied(session.cfg, state, device, precision).eval(), batch, device)
        reference = reference or found
        yield {"device": device, "precision": precision, **_compared(found, reference)}
    for precision in ("default", "bf16"):
        for images in (1, 8) if setting.on_gpu else (1,):
            job = setting.timed_job("opmask", precision, images)
            about = {"device": setting.device, "scale": setting.scale, "precision": precision}
            yield setting.attempt({**about, "batch": images}, partial(_speed, setting, job))


@torch.no_grad()
def _detected(model: Any, batch: Sequence[dict[str, Any]], device: str) -> Found:
    """For each image what is found, and the masks of the true boxes at three times its size."""
    result = []
    for image in batch:
        true = image["instances"]
        given = Instances(true.image_size, pred_boxes=Boxes(true.gt_boxes.tensor.clone()))
        given.pred_classes, given.scores = true.gt_classes, torch.ones(len(true))
        (masked,) = model.inference([image], [given.to(device)], do_postprocess=False)
        pasted = detector_postprocess(masked, *(3 * side for side in true.image_size)).pred_masks
        result.append((model([image])[0]["instances"].to("cpu"), pasted.cpu()))
    return result


def _compared(found: Found, reference: Found) -> Row:
    again, scores, ious = [], [], []
    for (ours, masks), (true, true_masks) in zip(found, reference, strict=True):
        overlap = pairwise_iou(true.pred_boxes, ours.pred_boxes)
        best, where = (overlap * (true.pred_classes[:, None] == ours.pred_classes)).max(1)
        again.append(best > 0.9)
        scores.append((ours.scores[where] - true.scores).abs()[best > 0.9])
        either = (masks | true_masks).flatten(1).sum(1)
        ious.append(((masks & true_masks).flatten(1).sum(1) / either)[either > 0])
    found_again, iou = torch.cat(again).float(), torch.cat(ious)
    row = {"detections": len(found_again), "found_again": found_again.mean().item()}
    row |= {"mask_iou": iou.mean().item(), "worst_mask_iou": iou.min().item()}
    return row | {"score_off": torch.cat([*scores, torch.zeros(1)]).max().item()}


@torch.no_grad()
def _speed(setting: Setting, job: Job) -> Row:
    session = Session(job)
    model: Any = session.model.eval()
    nn.init.zeros_(model.proposal_generator.rpn_head.anchor_deltas.weight)  # boxes stay in sight
    nn.init.zeros_(model.roi_heads.box_predictor.bbox_pred.weight)
    model.roi_heads.box_predictor.test_score_thresh = 0.0
    images = [{k: v for k, v in one.items() if k != "instances"} for one in next(session.batches)]
    seconds = setting.seconds(partial(model, images), 5 if setting.on_gpu else 1)
    return {"images_per_s": job.batch / seconds}
