"""Bring your own data: from a folder to predictions, through the stages' own commands."""

import importlib
import json
import os
from pathlib import Path

import pandas as pd
import pytest
import yaml
from own_set import CLASSES, RUNS, WEAK, own_params, write_set

from opmask import predict
from opmask.data import __main__ as data_command
from study.runs.progress import progress
from study.spec.params import load_params

# As in dvc.yaml.
ANALYSES = ["table1", "cam", "tables", "overlap", "regression", "contrasts", "figure6", "search"]
ANALYSES += ["schedule_search", "ambiguity", "oracle", "gallery", "claims", "report"]


def stage(name: str) -> None:
    importlib.import_module(f"pipeline.{name}").run([])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which every stage has run."""
    root, before = tmp_path_factory.mktemp("project"), Path.cwd()
    write_set(root / "wetland")
    os.chdir(root)
    own_params(root / "wetland")
    for name in ("plan", "data", "splits", "pretrain", "train", "evaluate", *ANALYSES):
        stage(name)
    yield root
    os.chdir(before)


@pytest.mark.slow
def test_the_split_is_the_users_and_weak_classes_have_no_masks(project):
    splits = json.loads(Path("runs/own/splits.json").read_text())
    assert list(splits) == ["all", "wet"]
    wet = splits["wet"]
    assert set(wet["supervised"]["names"]) == {"heron", "otter"}
    assert set(wet["novel"]["names"]) == set(WEAK) and wet["evaluated"] == "novel"
    assert wet["supervised"]["train_masks"] == 20 and wet["novel"]["train_masks"] == 0
    assert wet["novel"]["train_instances"] == 20


@pytest.mark.slow
def test_a_trained_run_knows_its_classes(project):
    for run in RUNS:
        cfg = yaml.safe_load(Path(f"runs/own/train/{run}-0/config.yaml").read_text())["MODEL"]
        assert cfg["OPMASK"]["CATEGORY_IDS"] == sorted(CLASSES)
        assert cfg["OPMASK"]["CLASS_NAMES"] == [CLASSES[i] for i in sorted(CLASSES)]
        supervised = {cfg["OPMASK"]["CLASS_NAMES"][k] for k in cfg["OPMASK"]["SUPERVISED_CLASSES"]}
        assert supervised == {"heron", "otter"} and cfg["ROI_HEADS"]["NUM_CLASSES"] == 4
    assert {one.state for one in progress(load_params())} == {"published"}


@pytest.mark.slow
def test_every_class_is_evaluated_by_its_supervision(project):
    table = pd.read_csv("reports/own/tables/per_class.csv")
    assert len(table) == len(RUNS) * 4 * 2
    novel = table[table["supervision"] == "novel"]
    assert set(novel["category"]) == set(WEAK) and (novel["instances"] == 5).all()
    assert table["AP"].between(0, 100).all()


@pytest.mark.slow
def test_the_report_compares_the_users_runs_and_says_what_does_not_apply(project):
    every = pd.read_csv("reports/own/tables/contrasts.csv").set_index("name")
    rows = every[every["metric"] == "AP"]
    names = ["gain R50 wet", "prior R50 wet", "depth R50 wet"]
    own = rows.loc[names]
    assert own["difference"].notna().all() and (own["tested"] == 2).all()
    assert rows.drop(names)["difference"].isna().all()
    in_boxes = every.loc[names].query("task == 'oracle'")
    assert len(in_boxes) == 3 and in_boxes["difference"].notna().all()
    oracle = pd.read_csv("reports/own/tables/oracle.csv").query("classes == 'novel'")
    assert len(oracle) == 3 + 3 and (oracle["objects"] == 10).all()  # runs and floors
    ap = {run: _novel_ap(run) for run in RUNS}
    expected = [ap[RUNS[1]] - ap[RUNS[0]], ap[RUNS[1]] - ap[RUNS[2]], ap[RUNS[2]] - ap[RUNS[0]]]
    assert own["difference"].tolist() == pytest.approx(expected, abs=2e-3)
    report = Path("reports/own/README.md").read_text()
    assert (
        "does not have COCO's 80 classes" in report and "against the baseline on 2 novel" in report
    )
    for absent in ("Table 1", "Figure", "claims of the paper.", "voc → non-voc"):
        assert absent not in report, absent
    assert "opmask-R50-wet" in Path("reports/own/tables/contrasts.md").read_text()
    assert "opmask-R50-wet" in Path("reports/own/index.html").read_text()


def _novel_ap(run: str) -> float:
    metrics = json.loads(Path(f"runs/own/evaluate/{run}-0/metrics.json").read_text())
    return metrics["novel"]["mask_AP"]


@pytest.mark.slow
def test_predictions_carry_the_users_classes(project, tmp_path):
    words = ["wetland/val", "--run", "runs/own/train/opmask-R50-wet-0", "--out", str(tmp_path)]
    predict.run([*words, "--threshold", "0", "--format", "coco", "--format", "overlay", "--prior"])
    found = json.loads((tmp_path / "detections.json").read_text())
    assert found and {d["category_id"] for d in found} <= set(CLASSES)
    assert {d["file_name"] for d in found} <= {f"{k}.jpg" for k in range(1, 6)}
    images = json.loads((tmp_path / "images.json").read_text())
    assert {c["id"]: c["name"] for c in images["categories"]} == CLASSES
    assert len(list(tmp_path.glob("*.png"))) == 5


@pytest.mark.slow
def test_the_set_can_be_checked_beforehand(project, capsys):
    annotations = "wetland/annotations/instances_train.json"
    data_command.run(["check", "--annotations", annotations, "--images", "wetland/train"])
    rows = [line.split()[1:] for line in capsys.readouterr().out.splitlines()[2:6]]
    assert sorted(rows) == [
        [name, "10", "0" if name in WEAK else "10"] for name in sorted(CLASSES.values())
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"runs": ["opmask-R50-voc"]},
            "split 'voc': class 'person' (and 79 more of its classes) is not in the data set's "
            "categories; near names: heron; of this data set there are: all, wet",
        ),
        (
            {"splits": {"wet": ["heron", "oter"]}},
            "split 'wet': class 'oter' is not in the data set's categories; near names: otter",
        ),
        ({"splits": {"wet": list(CLASSES.values())}}, "leaves none novel: use 'all'"),
        ({"splits": {}}, "split: 'wet' is unknown; there are voc, nonvoc, voc20, all"),
    ],
)
def test_a_split_that_does_not_fit_is_known_before_anything_is_made(
    changes, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path / "wetland", 1, 1)
    own_params(tmp_path / "wetland", **changes)
    with pytest.raises(SystemExit):
        stage("plan")
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


def test_names_are_checked_at_coco_scale_without_its_files(tmp_path, monkeypatch):
    from opmask.errors import UserError
    from pipeline.plan import check_splits
    from study.spec.run import all_runs

    monkeypatch.chdir(tmp_path)
    splits = {"mine": ["cat", "hotdog"]}
    params = own_params(tmp_path, scale="coco", splits=splits, runs=["opmask-R50-mine"])
    with pytest.raises(UserError, match="'hotdog' is not in .* near names: hot dog"):
        check_splits(all_runs(params), params)
