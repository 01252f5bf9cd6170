"""Learning rates that schedules of different length share bit by bit."""

from detectron2.config import CfgNode
from detectron2.solver import build_lr_scheduler
from fvcore.common.param_scheduler import ParamScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class _Rounded(ParamScheduler):
    def __init__(self, exact: ParamScheduler):
        self.exact = exact

    def __call__(self, where: float) -> float:
        return round(self.exact(where), 12)


def build_exact_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """detectron2's scheduler, its factor rounded to 12 decimals.

    detectron2 computes in fractions of the whole training, so that equal rates of schedules of
    different length differ in their last bits.
    """
    scheduler = build_lr_scheduler(cfg, optimizer)
    scheduler._multiplier = _Rounded(scheduler._multiplier)
    return scheduler
