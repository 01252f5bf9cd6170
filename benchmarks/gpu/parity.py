"""Part `parity`: a training step of the same weights and images on the CPU in fp32, and on a GPU.

Random draws differ between devices, and proposals by rounding: so all RoIs and anchors are taken,
and every model gets the proposals of the first.
"""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from benchmarks.gpu.setting import Row, Setting, gradients_of, relative, use
from benchmarks.session import Session, build


def cases(setting: Setting) -> list[tuple[str, str]]:
    """Device and precision; the first is the reference."""
    return [("cpu", "fp32"), *((setting.device, one) for one in ("fp32", "tf32", "bf16"))]


def trained(setting: Setting) -> Session:
    """On CPU, a few steps old, so that no weights are those of initialisation."""
    use("fp32")
    session = Session(setting.small_job(batch=4))
    for layer in session.model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0  # running statistics at once
    session.train(2)
    return session


def copied(cfg: CfgNode, state: Mapping[str, Tensor], device: str, precision: str) -> Any:
    """The model of `cfg` with these weights; sets this process to the precision."""
    own = cfg.clone()
    own.MODEL.DEVICE, own.SOLVER.PRECISION = device, use(precision)
    model = build(own, tuned=True)
    model.load_state_dict(state)
    return model


def parity(setting: Setting) -> Iterator[Row]:
    """Losses, and how far gradients are from the reference's, relative to their norm: all as one
    vector, the median parameter's, and the worst one's."""
    session = trained(setting)
    batch, state = next(session.batches), session.model.state_dict()
    given: list[Instances] = []
    reference: tuple[dict[str, float], dict[str, Tensor]] | None = None
    for device, precision in cases(setting):
        model = copied(session.cfg, state, device, precision).train()
        _pin_proposals(model.proposal_generator, given, device)
        with EventStorage():
            found = model(batch)
        sum(found.values()).backward()
        losses = {name: loss.item() for name, loss in found.items()}
        gradients = gradients_of(model)
        reference = reference or (losses, gradients)
        off = {name: relative(gradients[name], one) for name, one in reference[1].items()}
        worst = max(off, key=lambda name: off[name])
        vectors = (torch.cat([*map(torch.flatten, g.values())]) for g in (gradients, reference[1]))
        row = {"device": device, "precision": precision, **losses}
        row["loss_off"] = max(abs(losses[name] / one - 1) for name, one in reference[0].items())
        row |= {"gradient_off": relative(*vectors), "median_off": median([*off.values()])}
        yield row | {"worst_off": off[worst], "worst": worst}


def _pin_proposals(rpn: Any, given: list[Instances], device: str) -> None:
    """Let `rpn` propose what is `given`; what it proposes by itself, if that is empty."""
    propose = rpn.predict_proposals

    def pinned(*args: Any) -> list[Instances]:
        if not given:
            given.extend(one.to("cpu") for one in propose(*args))
        return [one.to(device) for one in given]

    rpn.predict_proposals = pinned
