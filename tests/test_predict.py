"""`python -m opmask.predict`: all formats say the same, and the same as the evaluation."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.postprocessing import detector_postprocess
from PIL import Image
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from tiny import CLASSES, IDS, tiny_cfg, write_images

import opmask
from opmask import predict
from opmask.data.coco import load_json
from opmask.errors import UserError
from opmask.evaluation.inference import TestImages as ImagesOf
from opmask.evaluation.inference import detect, load_model
from opmask.evaluation.overlay import LONG_SIDE, TITLE_HEIGHT, heat_map, overlay
from opmask.evaluation.trained import find_trained
from opmask.inputs import find_images
from study.spec.code import PROJECT

ROOT = Path(__file__).parents[1]
DOCUMENTED = (ROOT / "docs/predict.md").read_text()
ALL = ["--format", ",".join(predict.FORMATS)]
THRESHOLD = 0.8  # of the model of `write_run`: some ten objects an image


def write_run(folder: Path, **changes) -> Path:
    """What training leaves, of a model with random weights that finds some objects anywhere."""
    cfg = tiny_cfg(
        TEST__DETECTIONS_PER_IMAGE=40,
        MODEL__ANCHOR_GENERATOR__SIZES=[[12], [16], [24], [32], [48]],
        **changes,
    )
    cfg.MODEL.OPMASK.CLASS_NAMES = [*CLASSES[:3], "dot/small"]
    cfg.MODEL.OPMASK.CATEGORY_IDS = list(IDS)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    boxes = model.roi_heads.box_predictor
    for layer in (model.proposal_generator.rpn_head.anchor_deltas, boxes.bbox_pred):
        torch.nn.init.zeros_(layer.weight)  # boxes are anchors
    spread(boxes.cls_score, model)
    if cfg.MODEL.MASK_ON:
        spread(model.roi_heads.mask_head.predictor, model)
    folder.mkdir()
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    return folder


def spread(layer: torch.nn.Module, model: torch.nn.Module) -> None:
    """Give `layer` weights by which what it tells apart of a noisy image is the most varied."""
    seen = []
    hook = layer.register_forward_hook(lambda _layer, inputs, _output: seen.append(inputs[0]))
    noise = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        model([{"image": noise, "height": 64, "width": 64}])
        hook.remove()
        features = seen[0].movedim(1, -1).flatten(0, -2)  # (samples, channels)
        centred = features - features.mean(0)
        directions = torch.linalg.svd(centred, full_matrices=False)
        scores = directions.Vh / directions.S[:, None] * len(features) ** 0.5
        weight = scores[: layer.weight.shape[0]]
        layer.weight.copy_(weight.view_as(layer.weight))
        layer.bias.copy_(-weight @ features.mean(0))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def photos(tmp_path) -> Path:
    """Six pictures, one of them in a folder of its own, a broken one and a text."""
    folder = tmp_path / "photos"
    write_images(folder)
    (folder / "instances.json").unlink()
    (folder / "more").mkdir()
    (folder / "6.png").rename(folder / "more" / "6.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much of a picture")
    (folder / "notes.txt").write_text("no picture")
    return folder


def run(*words) -> None:
    predict.run([str(word) for word in words])


@pytest.mark.slow
def test_formats_agree_and_a_broken_image_is_named(trained, photos, tmp_path, capsys):
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ending:
        run(photos, "-r", "--run", trained, "--out", out, "--threshold", THRESHOLD, *ALL)
    assert ending.value.code == 1
    written = capsys.readouterr()
    assert f"skipped: {photos / 'broken.jpg'}: cannot use this image" in written.err

    truth = COCO(out / "images.json")
    found = truth.loadRes(str(out / "detections.json"))
    names = {image["file_name"]: image for image in truth.dataset["images"]}
    assert sorted(names) == ["1.png", "2.png", "3.png", "4.png", "5.png", "more/6.png"]
    assert len(found.anns) > 12 and len({a["category_id"] for a in found.anns.values()}) > 1
    assert f"6 images, {len(found.anns)} objects\n{out}: " in written.out
    files = len([path for path in out.rglob("*") if path.suffix in (".png", ".json")])
    assert re.search(rf": {files} files; [\d.e+]+ images/s on cpu\n$", written.out)
    for name, image in names.items():
        annotations = found.loadAnns(found.getAnnIds(image["id"]))
        files = sorted((out / name).with_suffix("").glob("*.png"))
        assert len(files) == len(annotations)
        for file, annotation in zip(files, annotations, strict=True):
            mask = np.asarray(Image.open(file))
            assert mask.shape == (image["height"], image["width"])
            assert set(np.unique(mask)) <= {0, 255}
            assert np.array_equal(mask == 255, mask_util.decode(annotation["segmentation"]) == 1)
            category = truth.cats[annotation["category_id"]]["name"].replace("/", "-")
            assert file.stem.split("_")[1:] == [category, f"{annotation['score']:.2f}"]
            assert annotation["file_name"] == name and annotation["score"] > THRESHOLD
        picture = np.asarray(Image.open(photos / name).convert("RGB"))
        labels = [f"{truth.cats[a['category_id']]['name']} {a['score']:.2f}" for a in annotations]
        masks = [mask_util.decode(a["segmentation"]) for a in annotations]
        corners = [(x, y, x + w, y + h) for x, y, w, h in (a["bbox"] for a in annotations)]
        drawn = np.asarray(Image.open((out / name).with_suffix(".png")))
        assert drawn.max() > 0 and max(drawn.shape) == LONG_SIDE
        assert np.array_equal(drawn, overlay(picture, np.array(corners), labels, np.array(masks)))
        plain = overlay(picture, np.empty((0, 4)), [])
        assert (np.abs(drawn.astype(int) - plain).max() > 50) == bool(files)


def test_what_is_found_is_what_the_evaluation_finds(trained, tmp_path):
    data = write_images(tmp_path / "photos")
    run(tmp_path / "photos", "--run", trained, "--out", tmp_path, "--threshold", THRESHOLD,
        "--format", "coco")  # fmt: skip
    ours = json.loads((tmp_path / "detections.json").read_text())
    cfg = find_trained(trained).cfg
    images = load_json(data.annotations)["images"]
    model = load_model(cfg, trained / "model_final.pth")
    theirs = detect(model, cfg, images, tmp_path / "photos", IDS)
    file_names = {image["id"]: image["file_name"] for image in images}
    expected = [
        {**d, "file_name": file_names[d["image_id"]]} for d in theirs if d["score"] > THRESHOLD
    ]
    assert ours == expected and len(ours) < len(theirs)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_a_mask_threshold_is_the_one_of_detectron2s_postprocessing(threshold, trained, tmp_path):
    data = write_images(tmp_path / "photos")
    cfg = find_trained(trained).cfg
    image = load_json(data.annotations)["images"][0]
    given = ImagesOf(cfg, tmp_path / "photos")(image)
    plain = load_model(cfg, trained / "model_final.pth")
    own = load_model(cfg, trained / "model_final.pth", threshold)
    with torch.no_grad():
        (raw,) = plain.inference([given], do_postprocess=False)
        (found,) = own([given])
    size = image["height"], image["width"]
    expected = detector_postprocess(raw, *size, mask_threshold=threshold).pred_masks
    assert 0 < expected.float().mean() < 1
    assert (found["instances"].pred_masks == expected).float().mean() > 1 - 1e-6  # of rounding
    settings = {"threshold": 0, "mask_threshold": threshold, "device": "cpu"}
    masks = predict.load(trained, **settings)(tmp_path / "photos" / image["file_name"]).masks
    assert masks.sum() == pytest.approx(int(expected.sum()), rel=1e-5)


def test_images_in_batches_give_what_they_give_one_by_one(trained, tmp_path):
    data = write_images(tmp_path / "photos")
    cfg = find_trained(trained).cfg.clone()
    model = load_model(cfg, trained / "model_final.pth")
    batches = []
    model.register_forward_pre_hook(lambda _model, inputs: batches.append(len(inputs[0])))
    images = [i for i in load_json(data.annotations)["images"] if i["height"] == i["width"]]

    def found(size):
        cfg.TEST.IMS_PER_BATCH = size
        return detect(model, cfg, images, tmp_path / "photos", IDS)

    single, pairs = found(1), found(2)
    assert batches == [1, 1, 1, 2, 1]
    assert len(single) == len(pairs) > 100
    for one, other in zip(single, pairs, strict=True):
        assert one["image_id"] == other["image_id"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-3)


def test_a_turned_photograph_is_taken_upright(trained, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    pixels = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif)
    run(tmp_path / "turned.jpg", "--run", trained, "--out", tmp_path / "out", "--format", "coco",
        "--threshold", 0)  # fmt: skip
    (image,) = json.loads((tmp_path / "out/images.json").read_text())["images"]
    assert (image["width"], image["height"]) == (48, 64)
    masks = json.loads((tmp_path / "out/detections.json").read_text())
    assert masks and all(d["segmentation"]["size"] == [64, 48] for d in masks)


def test_priors_stand_beside_the_overlay_with_and_without_mask_head(trained, tmp_path):
    boxes_only = write_run(tmp_path / "boxes", MODEL__MASK_ON=False)
    write_images(tmp_path / "photos", 1)
    for name in (trained, boxes_only):
        run(tmp_path / "photos/1.png", "--run", name, "--out", tmp_path / "out", "--prior",
            "--threshold", THRESHOLD)  # fmt: skip
        drawn = np.asarray(Image.open(tmp_path / "out/1.png")).astype(int)
        assert drawn.shape[1] == 2 * drawn.shape[0]  # of a square picture
        heat = drawn[:, drawn.shape[0] :]
        assert (heat.max(2) - heat.min(2)).max() > 100  # grey but for heat and boxes


def test_heat_map_is_the_larger_of_overlapping_priors():
    priors = np.stack([np.full((28, 28), 0.25), np.full((28, 28), 0.75)])
    boxes = np.array([(0, 0, 10, 10), (5, 5, 105, 105)])
    expected = np.zeros((20, 30))
    expected[:10, :10] = 0.25
    expected[5:, 5:] = 0.75
    for order in ([0, 1], [1, 0]):
        heat, covered = heat_map((20, 30), boxes[order], priors[order])
        assert np.allclose(heat, expected) and np.array_equal(covered, expected > 0)
    heat, covered = heat_map((20, 30), np.array([(40, 0, 45, 5)]), priors[:1])
    assert not heat.any() and not covered.any()


def test_images_of_one_name_do_not_overwrite_each_other(photos):
    shutil.copy(photos / "1.png", photos / "1.bmp")
    images = find_images([photos, photos / "2.png"], recursive=True)
    stems = [image.stem for image in images]
    assert stems == ["1.bmp", "1.png", "2", "3", "4", "5", "broken", "more/6"]


def test_a_snapshot_and_a_file_of_weights_are_runs_too(trained, tmp_path):
    snapshots = tmp_path / "run" / "snapshots"
    snapshots.mkdir(parents=True)
    shutil.copy(trained / "config.yaml", tmp_path / "run")
    shutil.copy(trained / "model_final.pth", snapshots / "model_0000010.pth")
    assert find_trained(snapshots / "model_0000010.pth").category_ids == IDS
    assert find_trained(trained / "model_final.pth").class_names[3] == "dot/small"


class Malicious:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def spoil(run_folder: Path, how: str) -> None:
    config, weights = run_folder / "config.yaml", run_folder / "model_final.pth"
    if how == "no folder":
        shutil.rmtree(run_folder)
    elif how == "no config":
        config.unlink()
    elif how == "no weights":
        weights.rename(run_folder / "model_0000003.pth")
    elif how == "no YAML":
        config.write_text("MODEL: [")
    elif how == "no classes":
        config.write_text(config.read_text().replace("    - disc\n", ""))
    elif how == "other weights":
        config.write_text(config.read_text().replace("CONV_DIM: 16", "CONV_DIM: 8"))
    elif how == "malicious":
        torch.save({"model": Malicious(run_folder / "executed")}, weights)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no folder", "no such run; give a folder with config.yaml and model_final.pth"),
        ("no config", "has no config.yaml; a finished training leaves one"),
        ("no weights", "no such file, the training may not be over; there is model_0000003.pth"),
        ("no YAML", "config.yaml: is no configuration of a training"),
        ("no classes", "CLASS_NAMES and CATEGORY_IDS must list the 4 classes"),
        ("other weights", "model_final.pth: not the weights of its configuration"),
        ("malicious", "model_final.pth: refused: not plain weights"),
    ],
)
def test_an_unusable_run_says_why(how, message, trained, photos, tmp_path, capsys):
    copy = shutil.copytree(trained, tmp_path / "copy")
    spoil(copy, how)
    with pytest.raises(SystemExit) as ending:
        run(photos, "--run", copy, "--out", tmp_path / "out")
    assert ending.value.code == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not (copy / "executed").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no such image, video or folder"),
        (["empty"], "empty: no image (-r also looks in the folders below); looked for .jpg, "),
        (["empty", "-r"], "empty: no image; looked for .jpg, .jpeg, .png"),
        (["photos", "--format", "coco,gif"], "--format: 'gif' is unknown; there are overlay, coco"),
        (["photos", "--format", "coco", "--compare", "x"], "--compare: is drawn with --format ov"),
        (["photos", "--every", "0"], "--every: 0 is not 1 or more"),
        (["no.mp4"], "no.mp4: no video that OpenCV can read"),
        (["photos", "--threshold", "5"], "--threshold: 5 is not between 0 and 1"),
        (["photos", "--mask-threshold", "0"], "--mask-threshold: 0 is not above 0, at most 1"),
        (["photos", "--format", "coco", "--prior"], "--prior: is drawn with --format overlay"),
        (["photos", "--device", "abacus"], "device 'abacus' cannot be used; there are auto"),
    ],
)
def test_unusable_arguments_say_why(words, message, trained, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("no.mp4").write_text("no video")
    with pytest.raises(SystemExit) as ending:
        run(*words, "--run", trained)
    assert ending.value.code == 2
    assert message in capsys.readouterr().err


def test_masks_are_not_to_be_had_of_a_run_without_mask_head(photos, tmp_path, capsys):
    boxes_only = write_run(tmp_path / "boxes", MODEL__MASK_ON=False)
    with pytest.raises(SystemExit):
        run(photos, "--run", boxes_only, "--format", "png")
    assert "has no mask head" in capsys.readouterr().err
    run(photos / "1.png", "--run", boxes_only, "--format", "coco", "--out", tmp_path / "out",
        "--threshold", THRESHOLD)  # fmt: skip
    found = json.loads((tmp_path / "out/detections.json").read_text())
    assert found and all("segmentation" not in detection for detection in found)


def test_folders_below_are_asked_for(photos):
    assert [i.file_name for i in find_images([photos])] == [
        "1.png", "2.png", "3.png", "4.png", "5.png", "broken.jpg",
    ]  # fmt: skip
    found = find_images([photos], [photos / "1.png"], recursive=True)
    assert [i.file_name for i in found][-1] == "more/6.png" and len(found) == 6


def test_frames_of_a_video_are_images(trained, tmp_path, capsys):
    frames = np.random.default_rng(2).integers(0, 255, (5, 48, 64, 3), np.uint8)
    clip = tmp_path / "clip.avi"
    video = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"FFV1"), 5, (64, 48))
    for frame in frames:
        video.write(frame)
    video.release()
    Image.fromarray(frames[2][..., ::-1]).save(tmp_path / "third.png")
    common = ["--run", trained, "--threshold", THRESHOLD, "--format", "coco,overlay"]
    run(clip, tmp_path / "third.png", *common, "--every", 2, "--out", tmp_path / "out")
    assert "4 images, " in capsys.readouterr().out
    images = json.loads((tmp_path / "out/images.json").read_text())["images"]
    assert [image["file_name"] for image in images] == [
        "clip.avi/000001", "clip.avi/000003", "clip.avi/000005", "third.png",
    ]  # fmt: skip
    drawn = [(tmp_path / "out" / name).read_bytes() for name in (
        "clip.avi/000001.png", "clip.avi/000003.png", "third.png")]  # fmt: skip
    assert drawn[1] == drawn[2] != drawn[0]
    assert [i.path.name for i in find_images([tmp_path])] == ["third.png"]  # named alone


@pytest.mark.slow
def test_two_runs_side_by_side(trained, tmp_path, capsys):
    other = write_run(tmp_path / "boxes", MODEL__MASK_ON=False)
    write_images(tmp_path / "photos", 1)
    common = [tmp_path / "photos/1.png", "--threshold", THRESHOLD]
    counts, alone = [], []
    for name in (trained, other):
        run(*common, "--run", name, "--out", tmp_path / name.name)
        counts.append(re.search(r"1 image, (\d+) object", capsys.readouterr().out)[1])
        alone.append(np.asarray(Image.open(tmp_path / name.name / "1.png")))
    run(*common, "--run", trained, "--compare", other, "--out", tmp_path / "out")
    both = np.asarray(Image.open(tmp_path / "out/1.png"))
    assert np.array_equal(both[TITLE_HEIGHT:], np.concatenate(alone, axis=1))
    strip = both[:TITLE_HEIGHT]
    assert (strip[:, : LONG_SIDE // 2] < 128).any() and (strip[:, LONG_SIDE:] < 128).any()
    said = capsys.readouterr().out
    assert f"1 image, {counts[0]} objects by run, {counts[1]} by boxes" in said


def test_nothing_found_says_what_to_try_and_nothing_written_fails(trained, tmp_path, capsys):
    write_images(tmp_path / "photos", 2)
    run(tmp_path / "photos", "--run", trained, "--out", tmp_path / "a", "--threshold", 1)
    said = capsys.readouterr().out
    assert "2 images, 0 objects, 2 images with none above 1: try --threshold 0.6\n" in said
    assert "a: 2 files; " in said
    with pytest.raises(SystemExit) as ending:
        run(tmp_path / "photos", "--run", trained, "--out", tmp_path / "b", "--threshold", 1,
            "--format", "png")  # fmt: skip
    assert ending.value.code == 1
    assert "nothing was written" in capsys.readouterr().err and not (tmp_path / "b").exists()
    (tmp_path / "broken.jpg").write_text("no picture")
    with pytest.raises(SystemExit) as ending:
        run(tmp_path / "broken.jpg", "--run", trained, "--out", tmp_path / "b", *ALL)
    assert ending.value.code == 1
    said = capsys.readouterr()
    assert "0 images, 0 objects\n" in said.out and "nothing was written" in said.err
    assert not (tmp_path / "b").exists()


def test_a_loaded_run_gives_what_the_command_gives(trained, tmp_path):
    write_images(tmp_path / "photos", 2)
    run(tmp_path / "photos", "--run", trained, "--out", tmp_path, "--threshold", THRESHOLD,
        "--mask-threshold", 0.3, "--format", "coco")  # fmt: skip
    written = json.loads((tmp_path / "detections.json").read_text())
    predictor = opmask.load(trained, threshold=THRESHOLD, mask_threshold=0.3, priors=True)
    path = tmp_path / "photos/2.png"
    with Image.open(path) as opened:
        given = [path, str(path), opened, np.asarray(opened)]
        found = [predictor(image) for image in given]
    for one in found:
        assert [{**d, "file_name": "2.png"} for d in one.coco(2)] == [
            d for d in written if d["image_id"] == 2
        ]
    n, (height, width, _) = len(one), one.image.shape
    assert n > 3 and (height, width) == np.asarray(Image.open(path)).shape[:2]
    assert one.boxes.shape == (n, 4) and one.boxes.dtype == np.float32
    assert (one.boxes[:, 2:] > one.boxes[:, :2]).all() and one.boxes.max() > 32
    assert one.scores.tolist() == sorted(one.scores.tolist(), reverse=True)
    assert one.masks.shape == (n, height, width) and one.masks.dtype == bool
    assert one.priors.shape == (n, 28, 28)
    assert one.priors.min() >= 0 and one.priors.max() <= 1
    assert (np.ptp(one.priors, axis=(1, 2)) > 0.5).all()  # each has its own range, then resized
    assert len(one.names) == n and set(one.names) <= {*CLASSES[:3], "dot/small"}


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), [[1]]])
def test_what_is_no_picture_is_refused(image, trained):
    with pytest.raises(UserError, match=r"has to be uint8 \(H, W, 3\), RGB"):
        predict.load(trained)(image)


def test_importing_the_library_stays_cheap():
    script = "import sys, opmask.predict; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_what_trains_does_not_rest_on_what_predicts():
    assert not {"opmask.predict", "opmask.evaluation.predictor"} & set(
        PROJECT.digests("study.runs.training")["modules"]
    )


def test_the_documented_example_runs(trained, tmp_path, capsys, monkeypatch):
    (code,) = re.findall(r"```python\n(import opmask\n\npredictor.*?)```", DOCUMENTED, re.DOTALL)
    write_images(tmp_path / "photos", 1)
    monkeypatch.chdir(tmp_path)
    for word, ours in (("runs/miniature/train/opmask-R50-voc-0", trained),
                       ("photos/street.jpg", "photos/1.png")):  # fmt: skip
        assert word in code
        code = code.replace(word, str(ours))
    exec(compile(code, "docs/predict.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines and all(re.fullmatch(r"[\w/]+ \d\.\d\d .*", line) for line in lines)
    assert (tmp_path / "street.png").is_file()
