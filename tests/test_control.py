"""What of a gain is the prior's and what the deeper mask head's."""

import math

import pandas as pd
import pytest

from study.report.sentences import control as sentences


def rows(where: str, prior: tuple, depth: tuple) -> list[dict]:
    pairs = {("opmask", "maskrcnn"): (9.0, 8.0, 10.0), ("opmask", "maskrcnn7"): prior}
    pairs[("maskrcnn7", "maskrcnn")] = depth
    return [
        {"a": f"{a}-{where}", "b": f"{b}-{where}", "difference": d, "low": low, "high": high}
        for (a, b), (d, low, high) in pairs.items()
    ]


@pytest.mark.parametrize(
    ("where", "prior", "depth", "text"),
    [
        (
            "R50-voc",
            (1.5, 0.5, 2.5),
            (-0.25, -1, 0.5),
            "R-50-FPN, voc → non-voc: the prior, at equal depth, gives +1.50 AP (+0.50 to +2.50); "
            "three more mask convolutions without it give −0.25 AP (−1.00 to +0.50, undecided).",
        ),
        (
            "lite0-wet",
            (0.25, -1, 0.5),
            (-1, -2, -0.5),
            "lite0-FPN, masks of `wet`: the prior, at equal depth, gives +0.25 AP (−1.00 to +0.50, "
            "undecided); three more mask convolutions without it give −1.00 AP (−2.00 to −0.50).",
        ),
    ],
)
def test_a_gain_has_two_parts(where, prior, depth, text):
    assert sentences(pd.DataFrame(rows(where, prior, depth))) == [text]


def test_nothing_is_said_of_runs_that_were_not_made():
    never = (math.nan, math.nan, math.nan)
    assert sentences(pd.DataFrame(rows("R50-voc", (1.5, 0.5, 2.5), never))) == []
    without_baseline = rows("R50-voc", (1.5, 0.5, 2.5), never)[:2]
    assert sentences(pd.DataFrame(without_baseline)) == []
