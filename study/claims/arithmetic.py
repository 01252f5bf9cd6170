"""Evidence that needs no run: the paper's own tables, the method's definition, COCO's boxes."""

from collections.abc import Sequence
from importlib.resources import files

import pandas as pd

from study import paper
from study.claims.rules import NAN, Cell
from study.claims.sources import COST, DEFINITION, PAPERS, RANK, Evidence, Tables
from study.labels import DIRECTIONS

_ARITHMETIC = "arithmetic on the paper's tables: are its sentences consistent with them?"
# Section 3.1 and the authors' code: channels of the box head, RoI sizes (pixels), mask channels.
BOX_CHANNELS, BOX_SIZE = (256, 512, 1024, 1024, 1024), 7
MASK_CHANNELS, MASK_SIZE, KERNEL = 256, 14, 3
CLASSES = 80
OURS_CONVS, BASELINE_CONVS = 7, 4  # of the mask head


def exact(name: str, value: float, stated: float = NAN) -> Cell:
    """A number without uncertainty, beside the paper's."""
    value = round(float(value), 4)
    return Cell(name, value, value, value, paper=stated, over="nothing")


def quoted_gap(
    a: tuple[str, str],
    others: Sequence[tuple[str, str]],
    metrics: Sequence[str] = ("AP",),
    stated: Sequence[float] = (),
) -> Evidence:
    """Table 1 of the paper: row a (backbone, method) minus each other row, in both directions.

    `stated`: the differences that a sentence gives, by row, direction and metric in turn.
    """

    def cells(_: Tables) -> list[Cell]:
        table = paper.load("table1").set_index(["backbone", "method", "supervised"]).sort_index()
        found = []
        for other in others:
            for supervised in DIRECTIONS:
                for metric in metrics:
                    values = [table.loc[(*row, supervised), metric] for row in (a, other)]
                    place = f"{DIRECTIONS[supervised]}, {metric}"
                    name = f"{a[1]} {a[0]} − {other[1]} {other[0]}, {place}"
                    number = stated[len(found)] if stated else NAN
                    found.append(exact(name, values[0] - values[1], number))
        return found

    return Evidence("study/paper/table1.csv", _ARITHMETIC, "AP", cells, PAPERS)


def overlap_ranks() -> Evidence:
    """Rank of person and cat by mean IoU among COCO's classes, under every reading of the mean."""

    def cells(_: Tables) -> list[Cell]:
        rows = coco_overlap().itertuples()
        return [exact(f"{row.category}, read as {row.reading}", row.rank) for row in rows]

    test = "every reading of `study/analysis/overlap.py` on all 849,942 boxes of train2017"
    return Evidence("study/claims/coco_overlap.csv", test, RANK, cells, DEFINITION)


def coco_overlap() -> pd.DataFrame:
    """The package's `coco_overlap.csv`."""
    with files(__package__).joinpath("coco_overlap.csv").open(encoding="utf-8") as stream:
        return pd.read_csv(stream)


def receptive_field() -> Evidence:
    """Receptive field of the mask head's 3×3 convolutions against the side of its input."""

    def cells(_: Tables) -> list[Cell]:
        name = f"receptive field minus side of the map, {MASK_SIZE}×{MASK_SIZE}"
        return [exact(name, field(OURS_CONVS) - MASK_SIZE)]

    return Evidence("section 3.2", "1 + 2·7 pixels", "pixels", cells, DEFINITION)


def field(convs: int) -> int:
    """Side of the receptive field of a stack of 3×3 convolutions with stride 1."""
    return 1 + (KERNEL - 1) * convs


def seeing_all(convs: int, size: int) -> int:
    """How many pixels of a size × size map see all of it through `convs` 3×3 convolutions."""
    reach = (KERNEL - 1) // 2 * convs
    return sum(p - reach <= 0 and p + reach >= size - 1 for p in range(size)) ** 2


def prior_cost() -> Evidence:
    """What the prior adds: weights of its own, and multiply-adds in percent of the box head's."""

    def cells(_: Tables) -> list[Cell]:
        percent = 100 * prior_macs() / box_head_macs()
        # Eq. 1 uses the classifier's own weights
        return [
            exact("weights of the prior's own", 0),
            exact("multiply-adds, percent of the box head's", percent),
        ]

    return Evidence("section 3.1, equation 1", "counted", COST, cells, DEFINITION)


def prior_macs() -> int:
    """Multiply-adds a RoI of the 1×1 convolution that makes the maps of all classes."""
    return BOX_CHANNELS[-1] * CLASSES * BOX_SIZE**2


def box_head_macs() -> int:
    """Multiply-adds a RoI of the box head's four 3×3 convolutions."""
    pairs = zip(BOX_CHANNELS[:-1], BOX_CHANNELS[1:], strict=True)
    return sum(a * b for a, b in pairs) * KERNEL**2 * BOX_SIZE**2


def deeper_head() -> tuple[int, int]:
    """(weights, multiply-adds a RoI) of the mask head's convolutions beyond the baseline's four,
    batch norm's two parameters a channel included in the weights."""
    more = OURS_CONVS - BASELINE_CONVS
    kernel = MASK_CHANNELS**2 * KERNEL**2
    return more * (kernel + 2 * MASK_CHANNELS), more * kernel * MASK_SIZE**2
