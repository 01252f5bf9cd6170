"""Options for speed that are off: no GPU has shown yet what they gain.

Set them under a scale's `config`, so that runs with and without are told apart: both change the
order of sums. CUDA graphs are no option, as every batch of images has a size of its own.
"""

from detectron2.config import CfgNode
from torch import nn
from torch.optim import Optimizer


def use_options(cfg: CfgNode, model: nn.Module, optimizer: Optimizer) -> None:
    """What `SOLVER.COMPILE_BACKBONE` and `SOLVER.FUSED_STEP` ask for, in place.

    The backbone with its FPN is most of a step, and the only large part whose graph does not depend
    on what is found in an image; sizes are dynamic. Names in checkpoints stay the same.
    """
    if cfg.SOLVER.COMPILE_BACKBONE:
        model.get_submodule("backbone").compile(dynamic=True)
    if cfg.SOLVER.FUSED_STEP:
        for group in optimizer.param_groups:
            group["fused"] = True
