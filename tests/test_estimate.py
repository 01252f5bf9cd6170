"""A number with its interval: where it lies, and how it is read, turned and joined."""

import math
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from study.analysis.estimate import (
    Estimate,
    Noise,
    correlation,
    mean_over_classes,
    student_half,
)

NAN = math.nan


@pytest.mark.parametrize(
    ("low", "high", "threshold", "where"),
    [
        (0.5, 2.0, 0.0, "above"),
        (-2.0, -0.5, 0.0, "below"),
        (-1.0, 2.0, 0.0, "around"),
        (0.0, 2.0, 0.0, "around"),  # an end at the threshold decides nothing
        (-2.0, 0.0, 0.0, "around"),
        (0.5, 2.0, 0.5, "around"),
        (0.5, 2.0, 3.0, "below"),
        (NAN, NAN, 0.0, "unknown"),
        (NAN, 1.0, 0.0, "unknown"),
    ],
)
def test_where_an_interval_lies(low, high, threshold, where):
    assert Estimate("x", 1.0, low, high).side_of(threshold) == where


def test_a_row_of_a_table_as_an_estimate():
    row = {"gain": "1.5", "low": "0.5", "high": "", "seeds": "3", "sd": 0.25, "other": "text"}
    one = Estimate.of(row, "gain", "x", over="classes")
    assert (one.name, one.value, one.low, one.sd, one.over) == ("x", 1.5, 0.5, 0.25, "classes")
    assert one.seeds == 3 and math.isnan(one.high) and math.isnan(one.p) and one.ran
    blank = Estimate.of(pd.Series({"gain": "", "seeds": ""}), "gain")
    assert not blank.ran and blank.seeds == 0
    assert Estimate.of(row, "gain", seeds=7).seeds == 7


def test_from_three_seeds_on_there_is_an_interval_over_them():
    one = Estimate("x", 2.0, 1.0, 3.0, sd=0.5, seeds=3, noise=Noise(9.0, 4))
    over_images, over_seeds = one.parts()
    assert (over_images.over, over_seeds.over) == ("validation images", "seeds")
    expected = stats.t.interval(0.95, 2, loc=2.0, scale=0.5 / math.sqrt(3))
    assert (one.whole().low, one.whole().high) == pytest.approx(expected)  # the wider of the two
    assert one.p_against(0.5) == pytest.approx(2 * stats.t.sf(1.5 / (0.5 / math.sqrt(3)), 2))
    assert len(Estimate("x", 2.0, sd=0.5, seeds=3).parts()) == 1  # seeds alone
    assert Estimate("x", 2.0, 1.0, 3.0, sd=0.5, seeds=2).parts() == []  # noise is not known
    assert Estimate("x", 2.0, noise=Noise(9.0, 4)).parts() == []


@given(st.floats(-3, 3), st.floats(0.1, 2), st.floats(0.1, 2), st.floats(0, 2), st.integers(1, 9))
@settings(deadline=None)
def test_p_is_small_just_where_the_interval_leaves_the_threshold_out(value, below, above, sd, df):
    one = Estimate("x", value, value - below, value + above, df=7, noise=Noise(sd, df)).whole()
    known = Estimate("x", value, value - below, value + above, df=7, noise=Noise(sd, df))
    p = known.p_against(0.0)
    assert (p < 0.05) == (one.low > 0 or one.high < 0) or p == pytest.approx(0.05)
    images = replace(known, df=math.inf)
    assert images.whole().low <= images.low + 1e-9 and images.whole().high >= images.high - 1e-9


def test_both_variances_and_satterthwaites_degrees_of_freedom():
    """As Welch's test has it, of two means: their errors are 3/√10 (9 df) and 2/√5 (4 df)."""
    a, b = 3 / math.sqrt(10), 2 / math.sqrt(5)
    half = a * stats.t.isf(0.025, 9)
    one = Estimate("x", 5.0, 5 - half, 5 + half, df=9, noise=Noise(b, 4))
    welch = stats.ttest_ind_from_stats(5.0, 3.0, 10, 0.0, 2.0, 5, equal_var=False)
    assert one.p_against(0.0) == pytest.approx(welch.pvalue)


def test_turned_and_in_another_unit():
    one = Estimate("x", 2.0, 1.0, 4.0, sd=0.5, seeds=2, paper=3.0)
    turned, tenth = -one, one.scaled(0.1)
    assert (turned.value, turned.low, turned.high, turned.paper) == (-2.0, -4.0, -1.0, -3.0)
    assert (turned.sd, turned.seeds) == (0.5, 2)
    found = (tenth.value, tenth.low, tenth.high, tenth.sd)
    assert found == pytest.approx((0.2, 0.1, 0.4, 0.05)) and tenth.paper == 3.0


def test_mean_and_correlation_over_classes():
    values = pd.Series([1.0, 2.0, 4.0, NAN])
    one = mean_over_classes("x", values, seeds=2)
    expected = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem([1.0, 2.0, 4.0]))
    assert (one.low, one.high) == pytest.approx(expected) and one.seeds == 2
    assert not mean_over_classes("x", values[:1]).ran
    assert student_half(values.std(), 3) == pytest.approx((one.high - one.low) / 2)
    x, y = pd.Series([1.0, 2, 3, 4, NAN]), pd.Series([1.0, 3, 2, 5, 9])
    one, known = correlation("r", x, y, "runs", paper=0.5), stats.pearsonr(x[:4], y[:4])
    assert (one.value, one.p) == pytest.approx((known.statistic, known.pvalue))
    assert (one.low, one.high) == pytest.approx(tuple(known.confidence_interval()))
    assert (one.paper, one.over) == (0.5, "runs")
    assert not correlation("r", x[:3], y[:3], "runs").ran
    assert not correlation("r", x[:4], pd.Series([1.0] * 4), "runs").ran
