"""Stage `evaluate`: what it publishes of one run."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as mask_util
from test_predict import write_run
from tiny import write_images

from opmask.data.coco import load_json
from pipeline.evaluate import evaluate_run
from study.spec.params import load_params
from study.spec.paths import DETECTIONS, ORACLE, PER_CLASS, PROVENANCE, Paths
from study.spec.results import read_json
from study.spec.run import Run

KEY = "opmask-R50-round-0"
ROOT = Path(__file__).parents[1]


@pytest.fixture
def params(tmp_path, monkeypatch):
    """Of a project with images for `evaluate_run`; work is done in its folder."""
    params = load_params(ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)
    file = Paths.of(params).manifest
    write_images(file.parent, count=3)
    categories = load_json(file.parent / "instances.json")["categories"]
    part = {"annotations": "instances.json", "images": ".", "counts": {"images": 3}}
    content = {"kind": "coco", "categories": categories, "root": ".", "train": part, "val": part}
    file.write_text(json.dumps(content))
    return params


def evaluated(
    trained: Path, params: dict, threshold: float, mask_head: str = "PriorMaskHead"
) -> Path:
    spec = {
        "run": vars(Run.from_name("opmask-R50-round", schedule="130k")),
        "splits": {"round": ["disc", "dot"]},
        "method": {"mask_head": mask_head},
        "mask_threshold": threshold,
    }
    folder = Path(f"evaluated-{threshold}")
    folder.mkdir()
    evaluate_run(KEY, spec, params, trained, folder)
    return folder


def pixels(folder: Path) -> np.ndarray:
    found = json.loads((folder / DETECTIONS).read_text())
    return np.array([mask_util.area(one["segmentation"]) for one in found])


def test_a_lower_threshold_reaches_detections_and_masks_in_true_boxes(params, tmp_path):
    trained = write_run(tmp_path / "trained")
    half, low = (evaluated(trained, params, threshold) for threshold in (0.5, 0.2))
    boxes = [
        [one["bbox"] for one in json.loads((folder / DETECTIONS).read_text())]
        for folder in (half, low)
    ]
    assert boxes[0] == boxes[1]
    assert (pixels(low) >= pixels(half)).all() and pixels(low).sum() > 1.2 * pixels(half).sum()
    of_half, of_low = (pd.read_csv(folder / ORACLE) for folder in (half, low))
    assert (of_half["score"] == of_low["score"]).all()
    assert (of_half["iou"] != of_low["iou"]).mean() > 0.5
    about = read_json(low / PROVENANCE)
    assert about["mask_threshold"] == 0.2 and about["architecture"] == "GeneralizedRCNN"


def test_a_run_without_masks_has_boxes_alone(params, tmp_path):
    trained = write_run(tmp_path / "trained", MODEL__MASK_ON=False)
    folder = evaluated(trained, params, 0.2, mask_head="none")
    assert not (folder / ORACLE).exists()
    assert set(pd.read_csv(folder / PER_CLASS)["task"]) == {"bbox"}
    assert "mask_threshold" not in read_json(folder / PROVENANCE)
