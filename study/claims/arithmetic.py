"""Evidence that needs no run: the paper's own tables, the method's definition, COCO's boxes."""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from itertools import product

import pandas as pd

from study import paper
from study.analysis.estimate import NAN, Estimate
from study.claims.sources import COST, DEFINITION, PAPERS, RANK, Table, evidence
from study.labels import DIRECTIONS

_ARITHMETIC = "arithmetic on the paper's tables: are its sentences consistent with them?"
_EVERY_READING = "every reading of `study/analysis/overlap.py` on all 849,942 boxes of train2017"
# Section 3.1 and the authors' code: channels of the box head, RoI sizes (pixels).
BOX_CHANNELS, BOX_SIZE = (256, 512, 1024, 1024, 1024), 7
MASK_SIZE, KERNEL = 14, 3
CLASSES = 80
MASK_CONVS = 7


def exact(name: str, value: float, stated: float = NAN) -> Estimate:
    """A number without uncertainty, beside the paper's."""
    value = round(float(value), 4)
    return Estimate(name, value, value, value, paper=stated, over="nothing")


@evidence("study/paper/table1.csv", _ARITHMETIC, kind=PAPERS)
def quoted_gap(
    _: Table,
    a: tuple[str, str],
    others: Sequence[tuple[str, str]],
    metrics: Sequence[str] = ("AP",),
    stated: Sequence[float] = (),
) -> Iterator[Estimate]:
    """Table 1 of the paper: row a (backbone, method) minus each other row, in both directions.

    `stated`: the differences that a sentence gives, by row, direction and metric in turn.
    """
    table = paper.load("table1").set_index(["backbone", "method", "supervised"]).sort_index()
    numbers = iter(stated)
    for other, (supervised, direction), metric in product(others, DIRECTIONS.items(), metrics):
        gap = table.loc[(*a, supervised), metric] - table.loc[(*other, supervised), metric]
        name = f"{a[1]} {a[0]} − {other[1]} {other[0]}, {direction}, {metric}"
        yield exact(name, gap, next(numbers, NAN))


@evidence("study/claims/coco_overlap.csv", _EVERY_READING, RANK, DEFINITION)
def overlap_ranks(_: Table) -> Iterator[Estimate]:
    """Rank of person and cat by mean IoU among COCO's classes, under every reading of the mean."""
    for row in coco_overlap().itertuples():
        yield exact(f"{row.category}, read as {row.reading}", row.rank)


@evidence("section 3.2", "1 + 2·7 pixels", "pixels", DEFINITION)
def receptive_field(_: Table) -> Iterator[Estimate]:
    """Receptive field of the mask head's 3×3 convolutions against the side of its input."""
    name = f"receptive field minus side of the map, {MASK_SIZE}×{MASK_SIZE}"
    yield exact(name, field(MASK_CONVS) - MASK_SIZE)


@evidence("section 3.1, equation 1", "counted", COST, DEFINITION)
def prior_cost(_: Table) -> Iterator[Estimate]:
    """What the prior adds: weights of its own, and multiply-adds in percent of the box head's."""
    yield exact("weights of the prior's own", 0)  # Eq. 1 uses the classifier's own weights
    yield exact("multiply-adds, percent of the box head's", 100 * prior_macs() / box_head_macs())


def coco_overlap() -> pd.DataFrame:
    """The package's `coco_overlap.csv`."""
    with files(__package__).joinpath("coco_overlap.csv").open(encoding="utf-8") as stream:
        return pd.read_csv(stream)


def field(convs: int) -> int:
    """Side of the receptive field of a stack of 3×3 convolutions with stride 1."""
    return 1 + (KERNEL - 1) * convs


def prior_macs() -> int:
    """Multiply-adds a RoI of the 1×1 convolution that makes the maps of all classes."""
    return BOX_CHANNELS[-1] * CLASSES * BOX_SIZE**2


def box_head_macs() -> int:
    """Multiply-adds a RoI of the box head's four 3×3 convolutions."""
    pairs = zip(BOX_CHANNELS[:-1], BOX_CHANNELS[1:], strict=True)
    return sum(a * b for a, b in pairs) * KERNEL**2 * BOX_SIZE**2
