"""What settings are chosen by: a training's masks on images that it has not seen."""

import json
from pathlib import Path

import pytest
from tiny import IDS, SUPERVISED, tiny_cfg, write_images

from opmask.data.coco import ImageSet, Manifest, load_json
from opmask.errors import UserError
from opmask.evaluation.floors import FLOORS
from opmask.evaluation.inference import load_model
from opmask.evaluation.oracle import measure_in_true_boxes
from opmask.training import trainer
from opmask.training.export import export_training
from opmask.training.hardware import Hardware
from pipeline import held_out as command
from study.spec.params import load_params
from study.spec.paths import WEIGHTS

HARDWARE = load_params(Path(__file__).parents[1] / "params.yaml")["hardware"]
GROUPS = {"novel": [7, 11], "supervised": list(SUPERVISED), "all": list(IDS)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held_out")
    data = write_images(folder / "images")
    data = trainer.TrainingData(data.annotations, data.images, data.supervised_ids, held_out=2)
    trainer.train(tiny_cfg(2), data, folder / "work", Hardware(), description="test")
    export_training(folder / "work", folder / "trained", "{}")
    content = json.loads(data.annotations.read_text())
    categories = content["categories"]
    held = ImageSet(data.annotations, data.images, {})
    return folder / "trained", Manifest("coco", categories, held, held)


def test_only_held_out_images_count(trained):
    folder, manifest = trained
    table = command.measure(folder, manifest, GROUPS, load_params() | {"hardware": HARDWARE})
    table = table.set_index("masks")
    assert list(table.index) == [command.OWN, *FLOORS]
    assert (table[["novel_objects", "supervised_objects"]] == 4).all(axis=None)  # of two images
    ids = set(json.loads((folder / "held_out.json").read_text()))
    assert len(ids) == 2
    data = load_json(manifest.train.annotations)
    data = {**data, "images": [i for i in data["images"] if i["id"] in ids]}
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in ids]
    cfg, _ = command.config(folder, HARDWARE)
    model = load_model(cfg, folder / WEIGHTS)
    found = measure_in_true_boxes(model, cfg, data, manifest.train.images, list(IDS))
    for name in ("novel", "supervised"):
        part = found[found["category_id"].isin(GROUPS[name])]
        assert table.loc[command.OWN, name] == pytest.approx(100 * part["iou"].mean())
        # every mask is half of its box: a right triangle
        assert table.loc["box", name] == pytest.approx(50, abs=6)
    assert table["right"].notna().sum() == 1


def test_runs_that_hold_nothing_out_are_refused():
    params = load_params() | {"seeds": {}}
    with pytest.raises(UserError, match="-S schedule=held_out"):
        command.chosen([], params | {"runs": ["opmask-R50-voc"], "seeds": {"opmask-R50-voc": [0]}})
    name = "opmask-R50-voc-held_out"
    held = params | {"runs": [name], "seeds": {name: [100]}}
    with pytest.raises(UserError, match=f"there are {name}-100"):
        command.chosen(["opmask-R50-voc-0"], held)
    assert [one.key for one in command.chosen([], held)] == [f"{name}-100"]
