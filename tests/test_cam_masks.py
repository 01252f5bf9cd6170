"""Class activation maps as masks, against a loop over detections and a naive paste."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from detectron2.modeling import build_model
from pycocotools import mask as mask_util
from tiny import CLASSES, IDS, tiny_cfg, write_images

from opmask.data.coco import load_manifest
from opmask.errors import UserError
from opmask.evaluation import cam_masks
from opmask.evaluation.cam_masks import cam_config
from opmask.evaluation.coco_ap import Matches
from pipeline import cam as stage
from study.spec.run import Run
from study.tables.table2 import read_cam
from study.tables.table2_maps import best_thresholds

FASTERRCNN = {"MODEL__MASK_ON": False, "MODEL__OPMASK__PRIOR": False}
MASKRCNN = {"MODEL__OPMASK__PRIOR": False, "MODEL__ROI_MASK_HEAD__NUM_CONV": 4}
METHODS = {"fasterrcnn": FASTERRCNN, "maskrcnn": MASKRCNN, "opmask": {}}


def config(method="opmask", **changes):
    return tiny_cfg(
        MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0,
        MODEL__RPN__POST_NMS_TOPK_TEST=12,
        TEST__DETECTIONS_PER_IMAGE=8,
        **METHODS[method],
        **changes,
    )


@torch.no_grad()
def trained(cfg):
    """A model of the run's own config whose weights give varied, finite scores and boxes."""
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight)
    torch.nn.init.normal_(model.roi_heads.box_predictor.bbox_pred.weight, std=0.2)
    for part in (model.backbone, model.roi_heads.box_head):  # fit the batch norms' statistics
        for layer in part.modules():
            layer.momentum = 1.0
        part.train()
        model([image()])
        part.eval()
    return model


def model_of(cfg, threshold=0.5):
    """A trained model of `cfg`, with its CAMs as masks."""
    model = build_model(cam_config(cfg, threshold)).eval()
    model.load_state_dict(trained(cfg).state_dict())  # strict: nothing missing, nothing left over
    return model


def image(height=96, width=128):
    """An image that detectron2 scales up before, and masks down after."""
    pixels = torch.rand(3, 64, 86, generator=torch.Generator().manual_seed(1)) * 255
    return {"image": pixels, "height": height, "width": width}


@torch.no_grad()
def detections(model, sample):
    """Instances in output pixels, and CAMs by a loop: of the proposal, and of the refined box."""
    seen, maps = {}, []
    heads = model.roi_heads
    hooks = [
        # of the proposals, and then of the refined boxes
        heads.box_head.register_forward_hook(lambda _, args, out: maps.append(out)),
        heads.box_predictor.register_forward_hook(lambda _, args, out: seen.update(scores=out[0])),
    ]
    (output,) = model([sample])
    for hook in hooks:
        hook.remove()
    found = output["instances"]
    probabilities = seen["scores"].softmax(1)
    weights = heads.box_predictor.cls_score.weight
    cams, refined = [], []
    for n, (score, c) in enumerate(zip(found.scores, found.pred_classes, strict=True)):
        proposal = (probabilities[:, c] - score).abs().argmin()  # the one with this score
        cams.append(sum(w * m for w, m in zip(weights[c], maps[0][proposal], strict=True)))
        refined.append(sum(w * m for w, m in zip(weights[c], maps[1][n], strict=True)))
    return found, torch.stack(cams).numpy(), torch.stack(refined).numpy()


def bilinear(grid, u, v):
    """`grid` at row u, column v; cell centres at half integers, outside: the nearest cell."""
    n = len(grid) - 1
    u, v = np.clip(u - 0.5, 0, n), np.clip(v - 0.5, 0, n)
    i, j = min(int(u), n - 1), min(int(v), n - 1)
    du, dv = u - i, v - j
    top = grid[i, j] * (1 - dv) + grid[i, j + 1] * dv
    return top * (1 - du) + (grid[i + 1, j] * (1 - dv) + grid[i + 1, j + 1] * dv) * du


def naive_map(cam):
    """The normalised map on 28 × 28 cells."""
    prior = (cam - cam.min()) / (cam.max() - cam.min())
    return np.array(
        [[bilinear(prior, (y + 0.5) / 4, (x + 0.5) / 4) for x in range(28)] for y in range(28)]
    )


def naive_values(cam, box, height, width):
    """The normalised map laid on `box`: value of each pixel centre, NaN outside the 28 cells."""
    fine = naive_map(cam)
    x0, y0, x1, y1 = box
    values = np.full((height, width), np.nan)
    for y in range(height):
        for x in range(width):
            u, v = (y + 0.5 - y0) / (y1 - y0) * 28, (x + 0.5 - x0) / (x1 - x0) * 28
            if 0.5 <= u <= 27.5 and 0.5 <= v <= 27.5:  # beyond, detectron2 fades to zero
                values[y, x] = bilinear(fine, u, v)
    return values


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_the_mask_is_the_thresholded_cam_on_the_refined_box(method, threshold):
    sample = image()
    found, cams, _ = detections(model_of(config(method), threshold), sample)
    assert len(found) == 8
    compared = 0
    for mask, box, cam in zip(found.pred_masks, found.pred_boxes.tensor, cams, strict=True):
        values = naive_values(cam, box.numpy(), sample["height"], sample["width"])
        clear = ~np.isnan(values) & (np.abs(values - threshold) > 1e-4)
        assert np.array_equal(mask.numpy()[clear], values[clear] >= threshold)
        compared += clear.sum()
    assert compared > 1000 and 0 < found.pred_masks.float().mean() < 1


def test_beside_it_the_map_made_anew_in_the_refined_box():
    found, cams, refined = detections(model_of(config(), 0.2), image())
    assert not np.allclose(cams, refined)
    for ours, cam in zip(found.refined_masks[:, 0] * 0.2 / 0.5, refined, strict=True):
        np.testing.assert_allclose(ours, naive_map(cam), atol=1e-5)


def test_only_the_masks_differ_from_the_trained_model():
    cfg, sample = config(), image()
    with torch.no_grad():
        ours, theirs = (m([sample])[0]["instances"] for m in (model_of(cfg), trained(cfg)))
    assert len(ours) == 8
    assert torch.equal(ours.pred_boxes.tensor, theirs.pred_boxes.tensor)
    assert torch.equal(ours.scores, theirs.scores)
    assert torch.equal(ours.pred_classes, theirs.pred_classes)
    assert not torch.equal(ours.pred_masks, theirs.pred_masks)
    assert not ours.has("box_features")


def test_a_constant_map_gives_an_empty_mask():
    model = model_of(config("maskrcnn"))
    torch.nn.init.zeros_(model.roi_heads.box_predictor.cls_score.weight)  # every CAM is zero
    with torch.no_grad():
        found = model([image()])[0]["instances"]
    assert len(found) and not found.pred_masks.any()


def test_an_image_without_detections():
    cfg = config("fasterrcnn", MODEL__ROI_HEADS__NMS_THRESH_TEST=0.5)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 1.0
    with torch.no_grad():
        found = model_of(cfg)([image()])[0]["instances"]
    assert len(found) == 0 and found.pred_masks.shape == (0, 96, 128)


PARAMS = {
    "scale": "tiny",
    "schedule": "130k",
    "seeds": [0],
    "runs": ["fasterrcnn-R50-all", "maskrcnn7-R50-all"],
    "splits": {},
    "cam": {"threshold": 0.5},
    "methods": {"fasterrcnn": {}, "maskrcnn7": {}},
    "hardware": {"gpus": 0, "workers": 0, "machines": 1, "machine_rank": 0, "dist_url": "auto"}
    | {"side_by_side": 1},
}


RUNS = [Run(f"{m}-R50-all", m, "R50", "all", "130k", 0) for m in ("fasterrcnn", "maskrcnn7")]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with two runs, of which the Faster R-CNN is a row of Table 2."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "load_params", lambda: PARAMS)
    monkeypatch.setattr(stage, "all_runs", lambda params: RUNS)
    write_images(Path("data/tiny/images"), count=2)
    part = {"annotations": "images/instances.json", "images": "images", "counts": {"images": 2}}
    categories = [{"id": i, "name": name} for i, name in zip(IDS, CLASSES, strict=True)]
    manifest = {"kind": "coco", "root": ".", "train": part, "val": part, "categories": categories}
    Path("data/tiny/manifest.json").write_text(json.dumps(manifest))
    folder = Path("runs/tiny/train/fasterrcnn-R50-all-0")
    folder.mkdir(parents=True)
    cfg = config("fasterrcnn")
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save({"model": trained(cfg).state_dict()}, folder / "model_final.pth")


def test_the_stage_evaluates_a_faster_rcnn_s_masks_and_no_others(project):
    stage.run([])
    run = RUNS[0]
    assert list(json.loads(Path("runs/tiny/cam/runs.json").read_text())) == [run.key]
    table = read_cam(Path("runs/tiny/cam"), [run])
    assert table["category_id"].tolist() == list(IDS)
    assert set(table["task"]) == {"segm"} and set(table["supervision"]) == {"supervised"}
    matches = Matches.load(Path("runs/tiny/cam", run.key, "matches_segm.npz"))
    assert len(matches.image) == 16  # 8 detections an image
    assert {path.name for path in Path("runs/tiny/cam").iterdir()} == {
        run.key,
        "runs.json",
        "SHA256SUMS",
    }


def test_maps_are_measured_again_only_if_what_determines_them_changed(project, monkeypatch):
    measured = []

    def detect(cfg, weights, manifest, workers, description):
        measured.append((description, cfg.MODEL.OPMASK.CAM_THRESHOLD))
        return []

    monkeypatch.setattr(cam_masks, "detect_maps", detect)
    monkeypatch.setattr(cam_masks, "measure_maps", lambda *_: pd.DataFrame())
    for threshold in (0.5, 0.5, 0.4):
        monkeypatch.setitem(PARAMS, "cam", {"threshold": threshold})
        stage.run([])
    assert measured == [("fasterrcnn-R50-all-0 CAM", 0.5), ("fasterrcnn-R50-all-0 CAM", 0.4)]
    config = Path("runs/tiny/train/fasterrcnn-R50-all-0/config.yaml")
    config.write_text(config.read_text() + "\n")
    stage.run([])
    assert len(measured) == 3


def test_refined_maps_and_ellipses_are_evaluated_on_the_same_detections(project):
    stage.run([])
    folder = Path("runs/tiny/cam/fasterrcnn-R50-all-0")
    tables = [
        pd.read_csv(folder / name) for name in ("per_class.csv", "refined.csv", "ellipse.csv")
    ]
    assert len({tuple(table["category_id"]) for table in tables}) == 1
    in_boxes = pd.read_csv(folder / "oracle.csv.gz")
    assert len(in_boxes) == 8  # an object of each of four classes in two images
    for few, many in ((20, 10), (50, 40), (90, 50)):  # a higher threshold covers less
        assert (in_boxes[f"covered_{few}"] <= in_boxes[f"covered_{many}"]).all()
    assert in_boxes["covered_10"].max() > in_boxes["covered_90"].max() > 0


def test_maps_in_true_boxes_by_hand(project, monkeypatch):
    """A map that rises from left to right lies on a half plane from each threshold on."""
    ramp = ((torch.arange(28) + 0.5) / 28).expand(28, 28)

    def segment(model, inputs, boxes, classes):
        return [ramp.expand(2 * len(one), 28, 28) for one in boxes], None

    monkeypatch.setattr(cam_masks, "segment", segment)
    manifest = load_manifest(Path("data/tiny/manifest.json"))
    weights = Path("runs/tiny/train/fasterrcnn-R50-all-0/model_final.pth")
    cfg = cam_config(config("fasterrcnn"))
    found = cam_masks.measure_maps(cfg, weights, manifest, 0, "x").set_index("annotation_id")
    data = json.loads(Path("data/tiny/images/instances.json").read_text())
    sizes = {one["id"]: (one["height"], one["width"]) for one in data["images"]}
    for one in data["annotations"]:
        height, width = sizes[one["image_id"]]
        x, y, w, h = one["bbox"]
        true = mask_util.decode(
            mask_util.merge(mask_util.frPyObjects(one["segmentation"], height, width))
        )
        inside, row = np.zeros((height, width)), found.loc[one["id"]]
        for v, u in np.ndindex(height, width):
            if 0 <= (v + 0.5 - y) / h < 1 and 0 <= (u + 0.5 - x) / w < 1:
                inside[v, u] = (u + 0.5 - x) / w
        for percent in (20, 50, 80):
            mask = inside >= percent / 100
            # a column or row of pixels at each edge may fall to either side
            edge = 2 * (h + w)
            assert abs(row[f"covered_{percent}"] * true.sum() - (mask & (true > 0)).sum()) <= edge
            assert row[f"iou_{percent}"] <= row[f"covered_{percent}"] + 1e-9
        u, v = np.meshgrid((np.arange(width) + 0.5 - x) / w, (np.arange(height) + 0.5 - y) / h)
        ellipse = (2 * u - 1) ** 2 + (2 * v - 1) ** 2 <= 1
        both = (ellipse & (true > 0)).sum() / (ellipse | (true > 0)).sum()
        assert row["iou_ellipse"] == pytest.approx(both, abs=1e-9)


def test_the_best_threshold_is_chosen_on_the_other_half():
    """Images 1 and 3 are best at 10 %, images 2 and 4 at 50 %."""
    table = pd.DataFrame(
        {
            "image_id": [1, 2, 3, 4, 4],
            "iou_10": [0.9, 0.1, 0.8, 0.2, 0.3],
            "iou_50": [0.2, 0.6, 0.3, 0.7, 0.8],
            "covered_10": [1.0, 0.9, 1.0, 0.9, 0.8],
            "covered_50": [0.5, 0.4, 0.3, 0.2, 0.1],
        },
        index=[11, 12, 13, 14, 15],
    )
    chosen = best_thresholds(table)
    assert chosen.to_dict() == {11: 50, 12: 10, 13: 50, 14: 10, 15: 10}
    assert best_thresholds(table[table["image_id"] == 1]).to_dict() == {11: 10}


@pytest.mark.parametrize("threshold", [0, -0.1, 1.5])
def test_a_threshold_out_of_range_is_named(threshold):
    with pytest.raises(UserError, match="cam.threshold"):
        cam_config(tiny_cfg(), threshold)


def test_the_run_s_config_is_left_as_it_is():
    cfg = tiny_cfg()
    cfg.freeze()
    cam_config(cfg)
    assert cfg.MODEL.ROI_HEADS.NAME == "OPMaskROIHeads" and cfg.is_frozen()
