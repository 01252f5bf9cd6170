"""What only a GPU can show, in one command that fits into a few minutes of one.

`python -m benchmarks gpu` runs PARTS in order of value (`command`), each in a process of its own
(`__main__`). A part is a generator of rows for a `Setting`; it lives in the module that is named
beside it. Every part also runs on CPU, smaller: a rehearsal, whose numbers say nothing of a GPU.
"""

from typing import NamedTuple


class Part(NamedTuple):
    """A function of a module of this package, its seconds at most on a GPU, and what it is for."""

    module: str
    seconds: int
    about: str


PARTS = {
    "machine": Part("machine", 40, "versions, driver, speed of products and convolutions"),
    "parity": Part("parity", 60, "losses and gradients of a step against those of the CPU"),
    "inference": Part("inference", 60, "detections and masks against those of the CPU, images/s"),
    "resume": Part("training", 120, "trained twice, and interrupted: the same bits or how near"),
    "step": Part("steps", 150, "a step by precision and batch, against plain code: ms, GiB"),
    "profile": Part("profiling", 60, "where a step's time goes, and each wait for the GPU by line"),
    "options": Part("options", 120, "what compiling, layouts, optimisers, loaders would gain"),
    "r101": Part("steps", 60, "a step of R-101 and of the other methods"),
    "nccl": Part("training", 60, "DistributedDataParallel, ranks on one GPU, SyncBN"),
    "smoke": Part("smoke", 150, "the pipeline at scale smoke, by DVC; pilot and prediction"),
}
