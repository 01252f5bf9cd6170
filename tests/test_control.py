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
        | {"task": "segm", "metric": "AP", "claim": "", "seeds": 3, "sd": 0.001}
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
            "three more layers without it give −0.25 AP (−1.00 to +0.50, not decided).",
        ),
        (
            "lite0-wet",
            (0.25, -1, 0.5),
            (-1, -2, -0.5),
            "lite0-FPN, masks of `wet`: the prior, at equal depth, gives +0.25 AP (−1.00 to +0.50, "
            "not decided); three more layers without it give −1.00 AP (−2.00 to −0.50).",
        ),
    ],
)
def test_a_gain_has_two_parts(where, prior, depth, text):
    assert sentences(pd.DataFrame(rows(where, prior, depth))) == [text]


def test_true_boxes_are_told_apart_and_noise_counts():
    found = pd.DataFrame(rows("R50-voc", (1.5, 0.5, 2.5), (1.0, 0.5, 1.5)))
    oracle = found.assign(task="oracle", metric="IoU", seeds=1, sd=math.nan)
    segm, iou = sentences(pd.concat([found, oracle]))
    assert "gives +1.50 AP (+0.50" in segm
    assert "gives +1.50 points of mask IoU in true boxes (noise between trainings not known" in iou
    again = {"three": oracle.assign(seeds=3, sd=0.001)}
    assert "true boxes (+0.50 to +2.50)" in sentences(pd.concat([found, oracle]), again)[1]


def test_nothing_is_said_of_runs_that_were_not_made():
    never = (math.nan, math.nan, math.nan)
    assert sentences(pd.DataFrame(rows("R50-voc", (1.5, 0.5, 2.5), never))) == []
    without_baseline = rows("R50-voc", (1.5, 0.5, 2.5), never)[:2]
    assert sentences(pd.DataFrame(without_baseline)) == []
