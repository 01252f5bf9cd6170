"""Other systems beside the baseline: by whom they are compared, and Holm over all of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from parameters import PARAMS, write_params
from scipy import stats
from statsmodels.stats.multitest import multipletests

from pipeline import rivals as stage
from study.analysis.contrasts import CONTRASTS
from study.analysis.rivals import rival_contrasts, rivals_table
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


def student(gain, sd):
    return 2 * stats.t.sf(abs(gain) / (sd / np.sqrt(3)), 2)


def test_best_first_with_intervals_over_trainings_too():
    found = rivals_table(table(), {"maskx": {"parameters": 2.4, "training": 1.1, "test": 1.0}})
    assert found["method"].tolist() == ["maskrcnn_boxinst", "opmask", "maskx", "maskrcnn"]
    assert found.set_index("method")["value"].to_dict() == VALUES
    maskx = found.set_index("method").loc["maskx"]
    half = stats.t.isf(0.025, 2) * 2 / np.sqrt(3)  # wider than over images
    assert (maskx["gain"], maskx["behind"]) == (1, 5)
    assert (maskx["gain_low"], maskx["gain_high"]) == pytest.approx((1 - half, 1 + half))
    assert maskx["gain_p"] == pytest.approx(student(1, 2))
    assert maskx["training"] == 1.1 and np.isnan(found.set_index("method").loc["opmask", "test"])
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
    text = page("Other systems", view.blocks(rivals_table(table(), {})))
    assert (
        "voc → non-voc, mask AP: better than the baseline: Mask R-CNN, BoxInst's losses, OPMask; "
        "better than OPMask: Mask R-CNN, BoxInst's losses; worse than OPMask: none." in text
    )
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert rows[1:] == ["Mask R-CNN, BoxInst's losses", "OPMask", "Mask^X R-CNN, no MLP",
                        "Mask R-CNN"]  # fmt: skip


def test_without_a_rival_there_is_nothing():
    alone = table()[:1]
    assert rivals_table(alone, {}).empty
    assert "suite=rivals" in page("x", view.blocks(rivals_table(alone, {})))


def test_a_report_without_rivals_shows_those_of_an_experiment(tmp_path, monkeypatch):
    write_params(PARAMS, tmp_path)
    tables = tmp_path / "reports" / PARAMS["scale"] / "tables"
    other = tmp_path / "reports" / "experiments" / "others"
    for folder in (tables, other):
        folder.mkdir(parents=True)
    table()[:1].to_csv(tables / "contrasts.csv", index=False)
    pd.DataFrame({"scale": [PARAMS["scale"]]}).to_csv(other / "gains.csv", index=False)
    found = rivals_table(table(), {"maskx": {"parameters": 3.5, "training": 1.5, "test": 1.25}})
    found.to_csv(other / "rivals.csv", index=False)
    monkeypatch.chdir(tmp_path)
    stage.run([])
    shown = pd.read_csv(tables / "rivals.csv")
    pd.testing.assert_frame_equal(shown, pd.read_csv(other / "rivals.csv"))
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
