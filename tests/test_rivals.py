"""Other systems beside the baseline: by whom they are compared, and Holm over all of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from parameters import PARAMS, write_params
from scipy import stats
from statsmodels.stats.multitest import multipletests

from pipeline import rivals as stage
from study.analysis.combinations import combinations_table
from study.analysis.contrasts import CONTRASTS
from study.analysis.rivals import rival_contrasts, rivals_table, with_times
from study.report.render import page
from study.report.views import rivals as view
from study.spec.run import Run


def runs(*names):
    return [Run.from_name(name, "130k") for name in names]


def test_a_rival_is_compared_with_the_baseline_and_with_opmask():
    planned = runs("maskrcnn-R50-voc", "opmask-R50-voc", "maskx-R50-voc", "maskx-R50-nonvoc")
    pairs = [(one.a, one.b) for one in rival_contrasts(planned)]
    assert pairs == [("maskx-R50-voc", "maskrcnn-R50-voc"), ("opmask-R50-voc", "maskx-R50-voc")]
    # OPMask against its baseline is the paper's own
    assert ("opmask-R50-voc", "maskrcnn-R50-voc") in {(one.a, one.b) for one in CONTRASTS}
    assert rival_contrasts(runs("maskrcnn-R50-voc", "opmask-R50-voc")) == ()
    assert not rival_contrasts(planned, [*CONTRASTS, *rival_contrasts(planned)])


def contrast(a, b, value_a, value_b, sd, half=0.5, task="segm"):
    gain = value_a - value_b
    return {
        "task": task, "a": f"{a}-R50-voc", "b": f"{b}-R50-voc", "value_a": value_a,
        "value_b": value_b, "difference": gain, "low": gain - half, "high": gain + half,
        "seeds": 3, "sd": sd, "p": 0.001,
    }  # fmt: skip


VALUES = {"maskrcnn": 19.0, "maskx": 20.0, "maskrcnn_boxinst": 27.0, "opmask": 25.0}


def table():
    found = [contrast("opmask", "maskrcnn", 25.0, 19.0, 0.3)]
    for rival, sd in (("maskx", 2.0), ("maskrcnn_boxinst", 0.2)):
        found.append(contrast(rival, "maskrcnn", VALUES[rival], 19.0, sd))
        found.append(contrast("opmask", rival, 25.0, VALUES[rival], sd))
    return pd.DataFrame(found)


def shown(contrasts):
    return with_times(rivals_table(contrasts, {}), None)


def student(gain, sd):
    return 2 * stats.t.sf(abs(gain) / (sd / np.sqrt(3)), 2)


def test_best_first_with_intervals_over_trainings_too():
    found = rivals_table(table(), {"maskx": 2.4})
    assert found["method"].tolist() == ["maskrcnn_boxinst", "opmask", "maskx", "maskrcnn"]
    assert found.set_index("method")["value"].to_dict() == VALUES
    maskx = found.set_index("method").loc["maskx"]
    half = stats.t.isf(0.025, 2) * 2 / np.sqrt(3)  # wider than over images
    assert (maskx["gain"], maskx["behind"]) == (1, 5)
    assert (maskx["gain_low"], maskx["gain_high"]) == pytest.approx((1 - half, 1 + half))
    assert maskx["gain_p"] == pytest.approx(student(1, 2))
    assert maskx["parameters"] == 2.4 and np.isnan(found.loc[1, "parameters"])  # of opmask
    assert maskx["quoted"] == 23.7  # voc → non-voc, of Table 1


def test_holm_is_over_every_difference_once():
    found = rivals_table(table(), {}).set_index("method")
    tests = {
        ("opmask", "gain"): (6, 0.3),
        ("maskx", "gain"): (1, 2.0),
        ("maskrcnn_boxinst", "gain"): (8, 0.2),
        ("maskx", "behind"): (5, 2.0),
        ("maskrcnn_boxinst", "behind"): (-2, 0.2),
    }
    images = {key: 2 * stats.norm.sf(abs(g) / (0.5 / 1.959964)) for key, (g, _) in tests.items()}
    p = [max(student(*one), images[key]) for key, one in tests.items()]
    expected = multipletests(p, method="holm")[1]
    for (method, pair), corrected in zip(tests, expected, strict=True):
        assert found.loc[method, f"{pair}_p_holm"] == pytest.approx(corrected, rel=1e-4)
    assert np.isnan(found.loc["maskrcnn", "behind_p_holm"])  # the same test as OPMask's gain


def test_the_page_says_who_is_better_than_whom():
    text = page("Other systems", view.blocks(shown(table())))
    assert (
        "voc → non-voc, mask AP, decided: better than the baseline: "
        "Mask R-CNN + BoxInst's losses, OPMask; "
        "better than OPMask: Mask R-CNN + BoxInst's losses; worse than OPMask: none." in text
    )
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert rows[1:] == ["Mask R-CNN + BoxInst's losses", "OPMask", "Mask^X R-CNN (no MLP)",
                        "Mask R-CNN"]  # fmt: skip


def test_the_page_of_everything_leaves_tables_of_iou_to_a_page_of_their_own():
    both = pd.concat([table(), table().assign(task="oracle")])
    found = page("x", view.body(shown(both)))
    assert "**voc → non-voc**, mask AP" in found and "**voc → non-voc**, mask IoU" not in found
    assert "[rivals.md](tables/rivals.md)" in found
    assert "**voc → non-voc**, mask IoU" in page("x", view.blocks(shown(both)))


def test_times_are_of_the_benchmark_by_method():
    costs = pd.DataFrame(
        {"variant": ["maskrcnn", "maskx"], "ratio": [1, 1.5], "test_ratio": [1, 2]}
    )
    found = with_times(rivals_table(table(), {}), costs).set_index("method")
    assert found.loc["maskx", ["training", "test"]].tolist() == [1.5, 2]
    assert np.isnan(found.loc["opmask", "training"])
    text = page("x", view.blocks(with_times(rivals_table(table(), {}), costs)))
    assert "1.50× |" in text and "2.00× |" in text
    for nothing in (None, costs[:0]):
        assert with_times(rivals_table(table(), {}), nothing)["test"].isna().all()


def test_without_a_rival_there_is_nothing():
    alone = table()[:1]
    assert rivals_table(alone, {}).empty
    assert "suite=rivals" in page("x", view.blocks(shown(alone)))


def test_a_report_without_rivals_shows_those_of_an_experiment(tmp_path, monkeypatch):
    write_params(PARAMS, tmp_path)
    tables = tmp_path / "reports" / PARAMS["scale"] / "tables"
    other = tmp_path / "reports" / "experiments" / "others"
    for folder in (tables, other):
        folder.mkdir(parents=True)
    table()[:1].to_csv(tables / "contrasts.csv", index=False)
    pd.DataFrame({"scale": [PARAMS["scale"]]}).to_csv(other / "gains.csv", index=False)
    found = rivals_table(table(), {"maskx": 3.5})
    found.to_csv(other / "rivals.csv", index=False)
    monkeypatch.chdir(tmp_path)
    stage.run([])
    shown = pd.read_csv(tables / "rivals.csv")
    pd.testing.assert_frame_equal(shown[list(found)], pd.read_csv(other / "rivals.csv"))
    assert shown["test"].isna().all()  # no costs.csv
    assert "BoxInst" in (tables / "rivals.md").read_text()


def test_every_rival_is_a_method_and_documented():
    from parameters import ROOT

    from study.analysis.rivals import RIVALS

    names = {one["method"] for one in RIVALS}
    assert names <= PARAMS["methods"].keys()
    text = Path(ROOT / "docs" / "rivals.md").read_text()
    with_components = {n for n, m in PARAMS["methods"].items() if "components" in m}
    assert "cpmask_like" not in names  # a reconstruction takes no part in a ranking
    assert with_components - {"cpmask_like"} <= names
    assert all(f"`{name}`" in text for name in with_components)


def curve(method, supervised, value, seed=100, **changes):
    return {
        "method": method, "supervised": supervised, "schedule": "held_out", "seed": seed,
        "key": f"{method}-{supervised}-{seed}", "iteration": 650, "classes": "novel",
        "task": "segm", "metric": "AP", "value": value, "low": value - 2, "high": value + 2,
    } | changes  # fmt: skip


def test_the_best_combination_has_the_highest_mean_on_held_out_images():
    curves = pd.DataFrame(
        [
            curve("opmask_gt", "voc", 30.0),
            curve("opmask_gt", "nonvoc", 20.0),
            curve("opmask_boxinst", "voc", 29.0),
            curve("opmask_boxinst", "nonvoc", 23.0),
            # none of these may count
            curve("opmask_gt", "voc", 90.0, classes="supervised"),
            curve("opmask_gt", "voc", 90.0, task="bbox"),
            curve("opmask_gt", "voc", 90.0, metric="AP50"),
            curve("opmask", "voc", 90.0, schedule="search"),
            curve("shapeprop_opmask", "voc", 90.0),  # of one direction alone
        ]
    )
    found = combinations_table(curves)
    assert found["method"].tolist() == ["opmask_boxinst", "opmask_gt"]
    assert found["mean"].tolist() == [26.0, 25.0] and found["chosen"].tolist() == [True, False]
    assert found.loc[0, ["nonvoc_low", "nonvoc_high"]].tolist() == [21, 25]
    assert found["seed"].tolist() == ["100", "100"]
    twice = combinations_table(pd.concat([curves, curves.assign(seed=101, value=0.0)]))
    assert twice.loc[0, "voc"] == 14.5 and np.isnan(twice.loc[0, "voc_low"])
    assert combinations_table(curves[:0]).empty


def test_the_page_names_the_best_combination_and_what_it_gave():
    held = combinations_table(
        pd.DataFrame(
            [curve("opmask_gt", "voc", 30.0), curve("opmask_gt", "nonvoc", 20.0)]
            + [curve("maskrcnn_boxinst", side, 26.0) for side in ("voc", "nonvoc")]
        )
    )
    text = page("Other systems", view.blocks(shown(table()), held))
    assert "**Best combination: Mask R-CNN + BoxInst's losses**" in text
    assert "(seed 100): 26.00, of 2 combinations; next OPMask" in text
    assert "AP over the baseline: +8.00 (voc → non-voc); over OPMask: +2.00." in text
    alone = page("Other systems", view.blocks(shown(table()[:1]), held))
    assert "Best combination" in alone and "On validation images" not in alone
    assert "Best combination" not in page("x", view.blocks(shown(table())))


def test_a_combination_is_never_chosen_on_validation_images():
    suite = PARAMS["suites"]["combinations"]
    assert suite and all(name.endswith("-held_out") for name in suite)
    schedule = PARAMS["schedules"]["held_out"]
    assert schedule["hold_out"] and schedule["snapshot_period"] == schedule["max_iter"]
    usual = PARAMS["schedules"]["130k"]
    assert all(schedule[key] == usual[key] for key in ("max_iter", "steps"))
