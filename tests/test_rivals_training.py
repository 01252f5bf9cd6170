"""Whole trainings of every other system: no mask of a novel class reaches them, they resume."""

import json
import signal
from dataclasses import replace

import pytest
import rival_checks
import torch
from detectron2.engine import SimpleTrainer
from parameters import PARAMS
from tiny import write_images

from opmask.training.hardware import Hardware
from opmask.training.trainer import train

METHODS = {name: one for name, one in PARAMS["methods"].items() if "components" in one}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), 4)


@pytest.fixture(scope="module")
def changed(data, tmp_path_factory):
    """With other masks of novel classes, or none."""
    content = json.loads(data.annotations.read_text())
    for annotation in content["annotations"]:
        if annotation["category_id"] not in data.supervised_ids:
            annotation["segmentation"] = [[0.0, 0.0, 9.0, 0.0, 0.0, 9.0]]
            if annotation["id"] % 2:
                del annotation["segmentation"]
    other = tmp_path_factory.mktemp("changed") / "other.json"
    other.write_text(json.dumps(content))
    return replace(data, annotations=other)


def weights(method, data, work):
    cfg = rival_checks.tiny_cfg(method)
    final = train(cfg, data, work, Hardware(), description="test")
    return torch.load(final, weights_only=True)["model"]


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_interrupted_and_with_other_masks_of_novel_classes_it_ends_alike(
    name, data, changed, tmp_path, monkeypatch
):
    expected = weights(METHODS[name], data, tmp_path / "a")
    steps, step = [], SimpleTrainer.run_step

    def interrupted(self):
        steps.append(self.iter)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGINT)
        step(self)

    monkeypatch.setattr(SimpleTrainer, "run_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        weights(METHODS[name], changed, tmp_path / "b")
    found = weights(METHODS[name], changed, tmp_path / "b")
    assert steps == [0, 1, 2, 3]
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
