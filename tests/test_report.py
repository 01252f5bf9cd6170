"""The stages `table1` and `report` on a small project whose evaluation is real.

Eight images with one object of each of three classes; a run is described by the number of images
in which its masks of the novel class are right, so AP is known.
"""

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dvc.utils.hydra import apply_overrides
from parameters import copy_params, write_params
from pycocotools import mask as rle

from opmask.evaluation.coco_ap import evaluate
from pipeline import report, table1
from study.analysis.comparison import comparisons
from study.analysis.contrasts import contrast_table
from study.analysis.estimate import Estimate
from study.analysis.resampling import Resampler
from study.claims.rules import FAILS, HOLDS, UNDECIDED
from study.claims.sources import OURS
from study.report.command import command
from study.report.curves import loss_curves
from study.report.inputs import Inputs, TrainedRun
from study.report.overview import agreement, metrics, render_index
from study.report.pages import readme
from study.spec.params import load_params
from study.spec.results import METRICS, read_per_class, summarise
from study.spec.run import Run, all_runs
from study.tables.table1 import novel_gains
from study.tables.table1 import table1 as table1_frame

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml") | {"seeds": [0]}
SPLITS = {"voc": ("cat",), "nonvoc": ("cup|mug", "kite")}
CLASSES = {1: "cat", 2: "cup|mug", 3: "kite"}
IMAGES = 8


def box_mask(x, width):
    mask = np.zeros((40, 40), np.uint8, order="F")
    mask[5:25, x : x + width] = 1
    encoded = rle.encode(mask)
    return encoded | {"counts": encoded["counts"].decode()}


def write_ground_truth(path):
    annotations = [
        dict(image_id=image, category_id=category, bbox=[5, 5, 20, 20], area=400, iscrowd=0)
        | dict(id=3 * image + category, segmentation=box_mask(5, 20))
        for image in range(1, IMAGES + 1)
        for category in CLASSES
    ]
    images = [dict(id=i, width=40, height=40, file_name=f"{i}.png") for i in range(1, IMAGES + 1)]
    categories = [dict(id=i, name=name) for i, name in CLASSES.items()]
    content = dict(images=images, annotations=annotations, categories=categories)
    path.write_text(json.dumps(content))


def detections(right, novel):
    """All boxes are right; masks of novel classes only in the first `right` images,
    those of kites in half as many."""
    for image in range(1, IMAGES + 1):
        for category, name in CLASSES.items():
            good = name not in novel or image <= (right // 2 if name == "kite" else right)
            mask = box_mask(5, 20) if good else box_mask(30, 5)
            yield dict(image_id=image, category_id=category, score=1 - image / 100) | dict(
                bbox=[5, 5, 20, 20], segmentation=mask
            )


def write_run(root, run, right):
    """What the stages train and evaluate leave behind."""
    novel = set(CLASSES.values()) - set(SPLITS[run.supervised])
    folder = root / "runs/miniature/evaluate" / run.key
    folder.mkdir(parents=True)
    tables = []
    for task in ("bbox", "segm"):
        result = evaluate(root / "val.json", list(detections(right, novel)), task=task)
        result.matches.save(folder / f"matches_{task}.npz")
        tables.append(result.per_class())
    table = pd.concat(tables).assign(run=run.name, method=run.method, backbone=run.backbone)
    table = table.assign(supervised=run.supervised, schedule=run.schedule, seed=run.seed)
    table["supervision"] = ["novel" if c in novel else "supervised" for c in table["category"]]
    table.to_csv(folder / "per_class.csv", index=False)
    (folder / "provenance.json").write_text(json.dumps({"images": IMAGES, "seconds": 30}))
    trained = root / "runs/miniature/train" / run.key
    trained.mkdir(parents=True)
    provenance = dict(run=run.name, seed=run.seed, iterations=260, wall_s=1800, dirty=True)
    provenance |= dict(
        hardware={"cpu": "Some | CPU", "cores": 2, "gpu": "idle", "gpus": 0, "ram_gib": 8}
    )
    provenance |= dict(versions={"torch": "2.15"}, commit="0123456789abcdef", precision="bf16")
    (trained / "provenance.json").write_text(json.dumps(provenance))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A function that lays out a project with `right` images by run name and runs both stages."""
    monkeypatch.chdir(tmp_path)

    def make(right, seeds=(0,), **changed):
        bootstrap = {"resamples": 40, "seed": 0}
        params = PARAMS | dict(scale="miniature", runs=list(right), seeds=list(seeds))
        params |= dict(schedule="130k", bootstrap=bootstrap) | changed
        write_params(params)
        write_ground_truth(tmp_path / "val.json")
        for run in all_runs(params):
            if right[run.name] is not None:
                write_run(tmp_path, run, right[run.name])
        table1.run([])
        report.run([])
        return tmp_path / "reports"

    return make


BOTH = {"maskrcnn-R50-voc": 2, "opmask-R50-voc": 6, "opmask-R50-voc-3x": 8}


# Of 101 recalls (0, .01 … 1), 26 are ≤ 2/8, the recall at which the second mask is right, and so
# on; precision is 1 up to there. Mean of mug (2 and 6 of 8 right) and kite (1 and 3 of 8).
BASELINE_AP = 100 * (26 + 13) / 2 / 101
OPMASK_AP = 100 * (76 + 38) / 2 / 101


NO_TABLE1 = table1_frame(summarise(read_per_class(Path("nowhere"), [])), {})


def test_numbers_reach_the_metrics(project):
    found = json.loads((project(BOTH) / "miniature/metrics.json").read_text())
    assert list(found) == ["R50"] and list(found["R50"]) == ["voc_to_nonvoc"]
    values = found["R50"]["voc_to_nonvoc"]
    assert values["novel_AP_baseline"] == pytest.approx(BASELINE_AP, abs=1e-3)
    assert values["novel_AP_opmask"] == pytest.approx(OPMASK_AP, abs=1e-3)  # not 100, the 3x run's
    assert values["gain"] == pytest.approx(OPMASK_AP - BASELINE_AP, abs=2e-3)
    assert len(values) == 3


def test_bootstrap_is_of_the_novel_classes_of_both_methods(project):
    project(BOTH)
    runs = all_runs(load_params())[:2]
    folder = Path("runs/miniature")
    gains = novel_gains(
        Resampler(folder / "evaluate", read_per_class(folder, runs), resamples=10, seed=0), []
    )
    assert list(gains) == [("R50", "voc")]
    assert list(gains["R50", "voc"]) == ["AP", "AP50", "AP75"]
    for gain in gains["R50", "voc"].values():  # every mask is right or of another place altogether
        assert gain.value == pytest.approx(OPMASK_AP - BASELINE_AP)


def test_pages_lead_with_the_finding(project):
    folder = project(BOTH)
    page = (folder / "miniature/README.md").read_text()
    assert "in 0 of 1 comparisons" in page.split("\n\n")[2] and "1 not decided; 3 not run" in page
    rows = [line for line in page.splitlines() if line.startswith("| R-50-FPN   |")]
    assert " not run |" in rows[0] and " +37.13 |" in rows[1]
    assert page.index(rows[1]) < page.index("## Table 1") < page.index("## How it was")
    assert (
        "Some \\| CPU, 2 cores, 8 GiB" in page and "0123456789ab with uncommitted changes" in page
    )
    assert "| train    |       3 |    30 min | 1.5 h |" in page
    index = (folder / "README.md").read_text()
    assert "+37.13 (noise not known)" in index and "(miniature/README.md)" in index


def test_per_class_file_has_every_run(project):
    table = pd.read_csv(project(BOTH) / "miniature/tables/per_class.csv")
    assert len(table) == len(BOTH) * 2 * len(CLASSES)
    assert set(table["category"]) == set(CLASSES.values())


def test_a_failed_reproduction_is_reported_alike(project, capsys):
    folder = project(BOTH | {"maskrcnn-R50-voc": 8, "opmask-R50-voc": 2})
    page = (folder / "miniature/README.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| R-50-FPN   | voc → non"))
    assert " −55.94 |" in row and row.endswith("+13.0 |")
    assert " not known |" in row
    *_, voc, _, _, last = capsys.readouterr().out.splitlines()
    assert voc.startswith("  R-50-FPN, voc → non-voc: −55.94 AP (") and "sign not decided" in voc
    assert last == "Everything on one page: reports/miniature/index.html"


def test_a_run_that_was_not_made(project):
    folder = project(BOTH | {"maskrcnn-R50-voc": None})
    found = json.loads((folder / "miniature/metrics.json").read_text())
    assert "gain" not in found["R50"]["voc_to_nonvoc"]
    assert "none of the 4 comparisons" in (folder / "miniature/README.md").read_text()


def test_a_run_without_any_mask(project):
    project(BOTH)
    for run in ("maskrcnn-R50-voc-0", "opmask-R50-voc-0"):
        folder = Path("runs/miniature/evaluate") / run
        table = pd.read_csv(folder / "per_class.csv")
        table[table["task"] == "bbox"].to_csv(folder / "per_class.csv", index=False)
        (folder / "matches_segm.npz").unlink()
    table1.run([])
    text = Path("reports/miniature/tables/table1.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| R-50-FPN   | voc → non"))
    assert "not run" in row


def test_nothing_was_run(project):
    folder = project({"maskrcnn-R50-voc": None})
    assert json.loads((folder / "miniature/metrics.json").read_text()) == {}
    assert (folder / "miniature/losses.csv").read_text().startswith("run,method,backbone,")
    assert "No training was recorded" in (folder / "miniature/README.md").read_text()


def test_seeds_are_averaged(project):
    folder = project(BOTH, seeds=(0, 1))
    table = pd.read_csv(folder / "miniature/tables/table1.csv")
    rows = table.query(
        "backbone == 'R50' and supervised == 'voc' and metric == 'AP' and not quoted"
    )
    rows = rows.query("classes == 'novel' and task == 'segm'")
    assert set(rows["seeds"]) == {2} and set(rows["sd"]) == {0}


def test_report_needs_table1(project, capsys):
    folder = project(BOTH)
    (folder / "miniature/tables/table1.csv").unlink()
    with pytest.raises(SystemExit) as stop:
        report.run([])
    assert stop.value.code == 2 and "run the stage table1 first" in capsys.readouterr().err


def test_scales_side_by_side(project):
    folder = project(BOTH)
    table = pd.read_csv(folder / "miniature/tables/table1.csv")
    found = {one.name: one for one in comparisons(table)}
    written = metrics(table)["R50"]["voc_to_nonvoc"]
    assert written["gain"] == found["R-50-FPN, voc → non-voc"].gain
    text = render_index({"mine": NO_TABLE1, "coco": NO_TABLE1, "miniature": table})
    header = next(line for line in text.splitlines() if line.startswith("| Backbone"))
    assert header.index("miniature") < header.index("coco") < header.index("mine")
    assert "13.0" in text and "none of the 4 comparisons" in text
    assert "No scale has been run." in render_index({})


def test_what_two_scales_decide_of_the_same_claims():
    def ledger(**verdicts):
        rows = [(key, f"Of {key}.", OURS, verdict) for key, verdict in verdicts.items()]
        return pd.DataFrame(rows, columns=["id", "reading", "kind", "verdict"])

    small = ledger(a=HOLDS, b=HOLDS, c=FAILS, d=HOLDS, e=UNDECIDED, f=FAILS)
    large = ledger(a=HOLDS, b=FAILS, c=FAILS, d=UNDECIDED, e=HOLDS, f=HOLDS)
    arithmetic = pd.DataFrame({"id": ["x"], "reading": ["X."], "kind": ["?"], "verdict": [HOLDS]})
    large = pd.concat([large, arithmetic])
    assert agreement(small, pd.concat([large, arithmetic])) == {
        "both": ["Of a."], "neither": ["Of c."], "first": ["Of b."], "second": ["Of f."],
        "one": ["Of d."], "other": ["Of e."],
    }  # fmt: skip
    tables = {"miniature": NO_TABLE1, "coco_small": NO_TABLE1}
    text = render_index(tables, claims={"miniature": small, "coco_small": large})
    assert "`miniature` and `coco_small` both decide 4 of them, 2 alike and 2 not." in text
    assert "Hold at `miniature` and not at `coco_small`: Of b." in text
    assert "Decided at `miniature` alone: 1; at `coco_small` alone: 1 (Of e.)." in text
    assert "decide" not in render_index(tables, claims={"miniature": small})


def test_scales_with_other_backbones_side_by_side():
    gains = {("R50", "voc"): {"AP": Estimate(value=2, low=1, high=3)}}
    per_class = [
        {"method": method, "supervised": "voc", "seed": 0, "supervision": "novel", "task": "segm"}
        | dict.fromkeys(METRICS, ap)
        for method, ap in (("maskrcnn", 5.0), ("opmask", 7.0))
    ]
    papers = table1_frame(pd.DataFrame(per_class).assign(backbone="R50"), gains)
    gains = {("lite0", "voc"): gains["R50", "voc"]}
    other = table1_frame(pd.DataFrame(per_class).assign(backbone="lite0"), gains)
    quiet = {"backbone": "R50", "supervised": "voc", "seed": [0, 1], "gain": [1.0, 1.0]}
    again = {scale: {"again": pd.DataFrame(quiet)} for scale in ("coco_small", "coco")}
    text = render_index({"coco_small": other, "coco": papers}, again)
    cells = {tuple(line.split("|")[1:3]): line.split("|")[3:6] for line in text.splitlines()[-7:]}
    cells = {tuple(map(str.strip, k)): [c.strip() for c in v] for k, v in cells.items()}
    small, full, published = cells["lite0-FPN", "voc → non-voc"]
    assert (small, full, published) == ("+2.00 (+1.00 to +3.00)", "not run", "–")
    assert cells["R-50-FPN", "voc → non-voc"] == ["not run", "+2.00 (+1.00 to +3.00)", "+13.0"]
    assert (
        text.count("in 1 of 1 comparisons") == 2 and "; 1 not run" in text and "; 3 not run" in text
    )


def test_losses_of_all_runs_are_one_table_short_enough_to_draw():
    runs = [Run.from_name("opmask-R50-voc", "130k"), Run.from_name("maskrcnn-R101-all-1x", seed=7)]
    curves = [pd.DataFrame({"step": range(1, n + 1), "value": range(n)}) for n in (3, 1000)]
    trained = [
        TrainedRun(one, {}, {"total_loss": curve}) for one, curve in zip(runs, curves, strict=True)
    ]
    table = loss_curves(trained)
    short, long = (table[table["run"] == one.key] for one in runs)
    assert short[["iteration", "total_loss"]].values.tolist() == [[1, 0], [2, 1], [3, 2]]
    assert long["iteration"].tolist() == list(range(20, 1001, 20))
    assert long["total_loss"].tolist() == [9.5 + 20 * n for n in range(50)]
    about = ["method", "backbone", "supervised", "schedule", "seed"]
    assert long[about].drop_duplicates().values.tolist() == [["maskrcnn", "R101", "all", "1x", 7]]
    assert list(loss_curves([])) == list(table)


def test_data_section_counts_and_credits(project):
    table = pd.read_csv(project(BOTH) / "miniature/tables/table1.csv")
    part = dict(names=["a", "b"], train_masks=1234, val_instances=56)
    page = readme(
        Inputs(
            scale="coco",
            schedule="3x",
            tables={"table1": table},
            manifest={"kind": "coco", "train": {"counts": {"with_masks": 7000}}},
            splits={"my|split": {"supervised": part, "novel": part}},
            credits="Drawings by A,\nCC-BY 4.0",
        )
    )
    assert "7,000" in page and "1,234" in page and "my\\|split" in page
    assert "> Drawings by A,\n> CC-BY 4.0" in page


NO_TABLE1 = table1_frame(summarise(read_per_class(Path("nowhere"), [])), {})
TRAINED = TrainedRun(Run("opmask-R50-voc", "opmask", "R50", "voc", "1x", 0), {"seed": 0}, {})


def readme_of(**more):
    return readme(Inputs("mine", "1x", **{"tables": {"table1": NO_TABLE1}} | more))


def test_initial_weights_are_stated_where_they_are_not_imagenets():
    made = {"trained": [TRAINED], "summary": summarise(read_per_class(Path("nowhere"), []))}
    warm = {"pretrain": [{"backbone": "R50"}]}
    page = readme_of(**made, provenance=warm, deepened={"R101": "R50"})
    assert "in place of ImageNet's weights, or from these" in page
    assert "R101 starts as R50 with further blocks" in page
    assert "Initial weights" not in readme_of(**made, provenance={"pretrain": []})


def contrast_rows():
    """`contrasts.csv` of which one row was run."""
    resampler = Resampler(Path("nowhere"), read_per_class(Path("nowhere"), []), resamples=2, seed=0)
    table = contrast_table(resampler)
    return table.assign(difference=[1.0] + [float("nan")] * (len(table) - 1), seeds=1)


def test_verdict_counts_and_links_to_what_is_there():
    verdicts = ["holds", "not run", "holds", "does not hold"]
    claims = pd.DataFrame({"verdict": [*verdicts, "holds"], "kind": ["our runs"] * 4 + ["other"]})
    claims["reading"] = [f"Reading {n}." for n in range(len(claims))]
    claims["verdict_corrected"] = ["holds", "not run", *["not decided at this scale"] * 2, "holds"]
    tables = {"table1": NO_TABLE1, "table2": pd.DataFrame({"seeds": [0]})}
    tables |= {"contrasts": contrast_rows()}
    page = readme_of(claims=claims, tables=tables)
    lead = (
        "**4 claims of the paper are tested by our runs. Holds: 2; does not hold: 1; not run: 1.**"
    )
    assert lead in page and "1 hold, 0 do not. Beside them" in page
    assert "[claims.md](claims.md)" in page
    assert "What holds" in page and "- Reading 0." in page and "Reading 2." not in page
    assert "[tables/contrasts.md](tables/contrasts.md): gradient" in page
    assert "(index.html)" in page
    assert "(tables/table2.md)" not in page  # nothing of it was run
    assert "claims of the paper" not in readme_of() and "(claims.md)" not in readme_of()


def test_figures_are_shown_by_relative_path_with_their_rule():
    picks = pd.DataFrame({"image_id": [1, 2], "seed": [0, 0], "rule": "By a rule."})
    figures = {"figure1": picks, "figure5": picks}
    page = readme_of(pictures={"figure1": Path("x/figures/figure1.png")}, figure_data=figures)
    assert "](figures/figure1.png)" in page and "By a rule. n = 2. Seed 0." in page
    assert "figure3.png" not in page  # was not made
    assert "Figure 5 show photographs" in page and "`runs/mine/figures/`" in page
    missing = (
        "Table 1, Table 2, Table 3, Masks in true boxes (not in the paper), "
        "Other systems on the same base (not in the paper), Figure 3, Figure 4"
    )
    assert f"left out: {missing}, Figure 6" in page
    assert "## Figures" not in readme_of()


def test_a_figure_of_runs_that_were_not_made_is_left_out():
    empty = {"figure6": pd.DataFrame({"seeds": [0, 0], "ap": [None, None]})}
    empty["figure7"] = pd.DataFrame({"annotation_id": [1], "image_id": 1, "run": "not run"})
    pictures = {name: Path(f"x/{name}.png") for name in empty}
    page = readme_of(pictures=pictures, figure_data=empty)
    assert "figure6.png" not in page and "figure7.png" not in page
    assert "Figure 6, Figure 7" in page.split("left out: ")[1]
    made = {"figure6": empty["figure6"].assign(seeds=1)}
    made["figure7"] = empty["figure7"].assign(run="opmask-R50-voc-0")
    page = readme_of(pictures=pictures, figure_data=made)
    assert "figure6.png" in page and "figure7.png" in page


def test_of_a_data_set_without_the_papers_classes_no_claim_is_made():
    part = dict(names=["a", "b"], train_masks=1, val_instances=2)
    claims = pd.DataFrame({"verdict": ["not run"], "kind": "our runs"})
    page = readme_of(splits={"wet": {"supervised": part, "novel": part}}, claims=claims)
    assert "does not have COCO's 80 classes" in page.split("\n\n")[2]
    assert "claims of the paper" not in page and "## Table 1" not in page


def test_every_run_has_its_results_and_its_cost(project):
    page = (project(BOTH, seeds=(0, 1)) / "miniature/README.md").read_text()
    line = next(x for x in page.splitlines() if x.startswith("| opmask-R50-voc, seed 1"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == f"{OPMASK_AP:.2f}" and cells[2] == "100.00"  # novel, supervised
    assert cells[-3:] == ["260", "30 min", "not recorded"]


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"scale": "coco_small", "schedule": "3x", "seeds": [0, 1, 2]},
        {"runs": ["opmask-R50-voc-1x", "maskrcnn-R50-voc"], "seeds": [100]},
    ],
)
def test_the_command_asks_for_the_same_runs(chosen, tmp_path):
    params = PARAMS | chosen
    words = shlex.split(command(params))
    assert words[:5] == ["uv", "run", "dvc", "exp", "run"] and set(words[5::2]) == {"-S"}
    copy_params(tmp_path)
    other = ["scale=smoke", "schedule=1x", "seeds=[7]", "runs=[opmask-R50-all]", "data_root=/data"]
    for overrides in (other, words[6::2]):  # as `-S` does, after it was told something else
        apply_overrides(str(tmp_path / "params.yaml"), overrides)
    again = load_params(tmp_path / "params.yaml")
    assert all_runs(again) == all_runs(params)
    assert again["scale"] == params["scale"]


def test_the_command_names_a_suite_and_hides_where_data_lie():
    params = {"scale": "coco", "schedule": "130k", "seeds": [0], "data_root": "/home/me"}
    suites = {"paper": ["a-b-c", "d-e-f"], "small": ["a-b-c"]}
    text = command(params | {"suites": suites, "runs": ["a-b-c"]}, own_data=True)
    assert "-S suite=small -S 'runs=[]' -S 'seeds=[0]' -S data_root=/path/to/data" in text
    assert "-S suite=paper" in command(params | {"suites": suites, "suite": "paper", "runs": []})
    assert "-S 'runs=[x-y-z]'" in command(params | {"suites": suites, "runs": ["x-y-z"]})
