"""The page of an experiment with several seeds: its numbers worked out by hand."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from pipeline import seeds as command
from study.analysis.rivals import COLUMNS
from study.report.views import seeds

REPORTS = Path(__file__).parents[1] / "reports"


def per_class(aps):
    """Mask AP of one novel class by (split, seed): (baseline, OPMask)."""
    return pd.DataFrame(
        {"run": f"{method}-R50-{split}", "method": method, "supervised": split, "seed": seed}
        | {"backbone": "R50"}
        | {"supervision": "novel", "task": "segm", "AP": ap}
        for (split, seed), pair in aps.items()
        for method, ap in zip(("maskrcnn", "opmask"), pair, strict=True)
    )


def test_gains_are_of_seeds_that_both_methods_have():
    frame = per_class({("voc", 0): (10, 12), ("voc", 1): (10, 11), ("voc", 2): (10, 9.5)})
    found = seeds.gains(frame[:-1], "miniature")  # OPMask's seed 2 is missing
    assert found[["scale", "supervised", "seed", "gain"]].to_numpy().tolist() == [
        ["miniature", "voc", 0, 2.0],
        ["miniature", "voc", 1, 1.0],
    ]
    everything = seeds.gains(frame, "miniature")
    (told,) = seeds.spread(everything)
    assert [round(told[k], 2) for k in ("mean", "sd", "low", "high")] == [0.83, 1.26, -2.29, 3.96]
    text = seeds.seeds_page(everything, ["maskrcnn-R50-voc", "opmask-R50-voc"], "miniature")
    assert "runs=[maskrcnn-R50-voc,opmask-R50-voc]" in text
    assert "ahead of its baseline in 2 of 3 pairs of trainings (two-sided sign test, p = 1." in text
    row = next(line for line in text.splitlines() if line.startswith("| voc"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    # the standard deviation of 2, 1 and −0.5 is 1.258; Student's t of two degrees is 4.303
    assert cells[1:] == ["+2.00", "+1.00", "−0.50", "+0.83 ± 1.26", "−2.29 to +3.96"]


def test_controls_and_other_systems_are_shown_where_there_are_some(tmp_path):
    frame = per_class({("voc", 0): (10, 12), ("voc", 1): (10, 11), ("voc", 2): (10, 12)})
    frame = frame.assign(schedule="130k")
    tables = REPORTS / "miniature" / "tables"
    shutil.copy(tables / "table1.csv", tmp_path)
    frame.to_csv(tmp_path / "per_class.csv", index=False)
    pairs = pd.read_csv(tables / "contrasts.csv").query("task == 'segm'")
    pairs.to_csv(tmp_path / "contrasts.csv", index=False)
    command.run([str(tmp_path)])
    assert "Why it works" not in (tmp_path / "README.md").read_text()
    one = pairs[pairs["a"].eq("opmask-R50-voc") & pairs["b"].eq("maskrcnn-R50-voc")]
    more = [one.assign(a="opmask_gaussian-R50-voc"), one.assign(b="opmask_gaussian-R50-voc")]
    pd.concat([pairs, *more]).to_csv(tmp_path / "contrasts.csv", index=False)
    pd.DataFrame(columns=COLUMNS).to_csv(tmp_path / "rivals.csv", index=False)
    command.run([str(tmp_path)])
    text = (tmp_path / "README.md").read_text()
    assert "![Why it works" in text and "(controls.png)" in text and "(rivals.md)" in text
    assert (tmp_path / "controls.png").is_file() and (tmp_path / "rivals.md").is_file()


def test_the_committed_pages_are_those_of_their_csv_files(tmp_path):
    for folder in (REPORTS / "experiments").glob("*/"):
        shutil.copytree(folder, tmp_path / folder.name)
        for page in (tmp_path / folder.name).glob("*.md"):
            page.unlink()
        command.run([str(tmp_path / folder.name)])
        for page in [*folder.glob("*.md"), folder / "gains.csv"]:
            assert (tmp_path / folder.name / page.name).read_text() == page.read_text()


def test_an_experiment_says_what_a_report_says_of_the_same_trainings(tmp_path):
    tables = REPORTS / "miniature" / "tables"
    for name in ("table1", "contrasts", "per_class"):
        shutil.copy(tables / f"{name}.csv", tmp_path)
    path = tmp_path / "per_class.csv"
    pd.read_csv(path).query("backbone == 'R50' and schedule == '130k'").to_csv(path, index=False)
    command.run([str(tmp_path)])
    gains = pd.read_csv(tmp_path / "gains.csv")
    rows = pd.read_csv(tables / "table1.csv").query("classes == 'novel' and task == 'segm'")
    reported = rows[(rows["method"] == "difference") & (rows["metric"] == "AP")]
    reported = reported[reported["backbone"] == "R50"].set_index("supervised")
    assert set(gains["supervised"]) == set(reported.index)
    for supervised, own in gains.groupby("supervised")["gain"]:
        row = reported.loc[supervised]
        found = [own.mean(), own.std(), len(own)]
        assert found == pytest.approx([row["ours"], row["sd"], row["seeds"]], abs=0.01)
