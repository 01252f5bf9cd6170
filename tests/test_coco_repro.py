"""Scale `coco` by DVC, from data in COCO's layout to Table 1; few images, a small model."""

import json
import subprocess

import pandas as pd
import pytest
import yaml

from benchmarks import coco_repro, coco_size

RUNS = ["maskrcnn-R50-voc", "opmask-R50-voc"]


@pytest.mark.dag
def test_scale_coco_reaches_its_first_table(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_size, "IMAGES", {"train": 40, "val": 6})
    monkeypatch.setattr(coco_size, "OBJECTS", {"train": 400, "val": 60})
    monkeypatch.setattr(coco_repro, "ITERATIONS", 3)
    data, project = tmp_path / "coco", tmp_path / "project"
    coco_repro.write_coco(data, None)
    assert len({path.stat().st_ino for path in (data / "train2017").iterdir()}) == 1
    coco_repro.make_project(project, data, official=False, runs=RUNS)
    done = pd.DataFrame(coco_repro.stages(project))
    assert list(done["stage"]) == list(coco_repro.STAGES)
    for run in RUNS:
        about = json.loads((project / f"runs/coco/train/{run}-0/provenance.json").read_text())
        assert (about["iterations"], about["hardware"]["processes"]) == (3, 2)
        config = yaml.safe_load((project / f"runs/coco/train/{run}-0/config.yaml").read_text())
        assert (config["SOLVER"]["IMS_PER_BATCH"], config["SOLVER"]["BASE_LR"]) == (16, 0.02)
    table = pd.read_csv(project / "reports/coco/tables/table1.csv")
    found = table[(table["backbone"] == "R50") & table["ours"].notna()]
    assert set(found["supervised"]) == {"voc"} and found["method"].nunique() == 3


def test_a_lost_process_is_no_end(monkeypatch, tmp_path):
    """A stage whose error says that repeating it resumes is repeated, once, and that is counted."""
    lost = subprocess.CompletedProcess([], 2, "", "it was lost; repeat the command to resume")
    (tmp_path / "params.yaml").touch()
    said = [lost, *[subprocess.CompletedProcess([], 0, "", "")] * len(coco_repro.STAGES)]
    monkeypatch.setattr(coco_repro, "call", lambda *_: said.pop(0))
    done = pd.DataFrame(coco_repro.stages(tmp_path))
    assert list(done["repeats"]) == [1] + [0] * (len(coco_repro.STAGES) - 1) and not said
    monkeypatch.setattr(coco_repro, "call", lambda *_: lost)
    with pytest.raises(coco_repro.UserError, match="stage code: it was lost"):
        list(coco_repro.stages(tmp_path))


@pytest.mark.slow
def test_what_fails_is_said(tmp_path, monkeypatch):
    """Three images are not COCO."""
    monkeypatch.setattr(coco_size, "IMAGES", {"train": 3, "val": 3})
    monkeypatch.setattr(coco_size, "OBJECTS", {"train": 9, "val": 9})
    coco_repro.write_coco(tmp_path / "coco", None)
    coco_repro.make_project(tmp_path / "project", tmp_path / "coco")
    with pytest.raises(
        coco_repro.UserError, match=r"stage plan: (?s:.*)train2017: 3 of 118,287 images"
    ):
        list(coco_repro.stages(tmp_path / "project"))
