"""Comparisons of runs that the paper does not have: which there are, and how they are told."""

import math
from pathlib import Path

import pandas as pd
import pytest

from study.analysis.contrasts import CLAIMS, CONTRASTS, further_contrasts, of_further
from study.report.markdown import markdown
from study.report.sentences import further as sentences
from study.report.views import contrasts as view
from study.spec.params import load_params
from study.spec.run import Run, all_runs


def runs(*names: str) -> list[Run]:
    return [Run(name, *name.split("-"), "130k", seed) for name in names for seed in (0, 1)]


def test_the_papers_own_runs_have_none():
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    made = [one for one in all_runs(params) if one.schedule == params["schedule"]]
    assert further_contrasts(made) == ()


def test_every_pair_of_an_own_split_or_backbone_once():
    found = further_contrasts(
        runs(
            *("opmask-R50-wet", "maskrcnn-R50-wet", "maskrcnn7-R50-wet"),
            *("opmask-lite0-voc", "maskrcnn-lite0-voc", "opmask-lite0-all", "maskrcnn-lite0-all"),
            *("opmask-R101-wet", "opmask-R50-voc", "maskrcnn-R50-voc"),
        )
    )
    assert [(one.name, one.a, one.b, one.classes) for one in found] == [
        ("gain R50 wet", "opmask-R50-wet", "maskrcnn-R50-wet", "novel"),
        ("prior R50 wet", "opmask-R50-wet", "maskrcnn7-R50-wet", "novel"),
        ("depth R50 wet", "maskrcnn7-R50-wet", "maskrcnn-R50-wet", "novel"),
        ("gain lite0 voc", "opmask-lite0-voc", "maskrcnn-lite0-voc", "novel"),
        ("gain lite0 all", "opmask-lite0-all", "maskrcnn-lite0-all", "all"),
    ]
    assert not any(one.claimed for one in found)
    assert {one.claim for one in found} <= CLAIMS
    assert not {one.name for one in found} & {one.name for one in CONTRASTS}


def test_photographs_ask_what_the_gain_is_made_of():
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    suite = params["suites"]["photographs"]
    found = further_contrasts(runs(*suite))
    assert {(one.a.split("-")[0], one.b.split("-")[0]) for one in found} == {
        ("opmask", "maskrcnn"),
        ("opmask", "maskrcnn7"),
        ("maskrcnn7", "maskrcnn"),
        ("opmask", "opmask_gaussian"),
        ("opmask_boxinst", "opmask"),
    }
    assert {one.a.split("-", 1)[1] for one in found} == {"lite0-voc", "lite0-nonvoc"}
    assert further_contrasts(runs(*suite), found) == ()


def table(*rows: dict) -> pd.DataFrame:
    """Rows of `contrast_table`: of the paper, then gains of our own."""
    claim = further_contrasts(runs("opmask-R50-wet", "maskrcnn-R50-wet"))[0].claim
    nan = dict.fromkeys(
        ["difference", "low", "high", "value_a", "value_b", "class_low", "class_high", "p"],
        math.nan,
    )
    common = nan | {"p_holm": math.nan, "seeds": 1, "sd": math.nan, "paper": math.nan}
    common |= {"a": "opmask-R50-wet", "b": "maskrcnn-R50-wet", "classes": "novel", "tested": 2}
    common |= {"claimed": False, "claim": claim, "section": "", "task": "segm", "metric": "AP"}
    ours = [common | row for row in rows]
    papers = common | {"claim": "theirs", "claimed": True, "tested": 0}
    return pd.DataFrame([papers, papers | {"claimed": False}, *ours])


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (
            {"difference": 1.5, "low": 0.25, "high": 3, "value_a": 5.5, "value_b": 4},
            "R50, masks of `wet`: OPMask gains 1.50 AP against the baseline on 2 novel classes "
            "(4.00 → 5.50); 95 % interval over images +0.25 to +3.00, which excludes 0.",
        ),
        (
            {"difference": -1.5, "low": -4, "high": 0.5, "value_a": 2.5, "value_b": 4},
            "R50, masks of `wet`: OPMask loses 1.50 AP against the baseline on 2 novel classes "
            "(4.00 → 2.50); 95 % interval over images −4.00 to +0.50, which includes 0: undecided.",
        ),
        (
            {"difference": 0.0, "value_a": 4, "value_b": 4},
            "R50, masks of `wet`: OPMask gains 0.00 AP against the baseline on 2 novel classes "
            "(4.00 → 4.00); too few images for an interval.",
        ),
        ({}, "R50, masks of `wet`: not run."),
    ],
)
def test_a_gain_is_told_whichever_way_it_went(row, text):
    assert sentences(of_further(table(row))) == [text]


def test_pages_have_a_part_of_their_own_for_them_if_there_are_any():
    heading, without = "Further runs", table()
    assert heading not in markdown(view.blocks(without))
    page = markdown(view.blocks(table({"difference": 1.0, "low": 0.0, "high": 2.0})))
    assert page.index(heading) < page.index("opmask-R50-wet", page.index(heading))
