"""RoI heads that learn on features kept on disk learn just what they would without."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from tiny import tiny_cfg, write_images

from opmask.data.coco import load_training_dicts
from opmask.data.loader import build_loader
from opmask.errors import UserError
from opmask.model import frozen_features
from opmask.model.frozen_features import FrozenFeaturesRCNN
from opmask.training import trainer
from opmask.training.files import FEATURES
from opmask.training.trainer import Hardware

ITERATIONS = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


def frozen_cfg(**changes):
    changes.setdefault("INPUT__MIN_SIZE_TRAIN", [64])
    changes.setdefault("MODEL__META_ARCHITECTURE", "FrozenFeaturesRCNN")
    return tiny_cfg(ITERATIONS, **changes)


def train(data, work: Path, **changes) -> dict[str, torch.Tensor]:
    final = trainer.train(frozen_cfg(**changes), data, work, Hardware(), description="test")
    return torch.load(final, weights_only=True)["model"]


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """Gets an entry for every image whose features are computed."""
    found: list[int] = []
    compute = FrozenFeaturesRCNN._compute

    def counting(model, image):
        found.append(image["image_id"])
        return compute(model, image)

    monkeypatch.setattr(FrozenFeaturesRCNN, "_compute", counting)
    return found


@pytest.fixture(scope="module")
def without(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrozenFeaturesRCNN, "keep_in", lambda *_: None)
        return train(data, tmp_path_factory.mktemp("without"))


def learned(cfg, final: dict[str, torch.Tensor], depth: int) -> set[str]:
    """Parts of the model, named to a depth, that training changed."""
    torch.manual_seed(cfg.SEED)
    before = build_model(cfg).state_dict()
    changed = [key for key in before if not torch.equal(before[key], final[key])]
    assert any(key.endswith("running_mean") for key in changed)
    return {".".join(key.split(".")[:depth]) for key in changed}


def test_only_roi_heads_learn(without):
    assert learned(frozen_cfg(), without, depth=1) == {"roi_heads"}


@pytest.mark.parametrize(("masks", "heads"), [(True, ["mask"]), (False, ["box"])])
def test_with_frozen_boxes_the_mask_head_alone_learns(masks, heads, data, tmp_path):
    changes = {"MODEL__META_ARCHITECTURE": "FrozenBoxesRCNN", "MODEL__MASK_ON": masks}
    final = train(data, tmp_path / "work", **changes)
    found = learned(frozen_cfg(**changes), final, depth=2)
    assert found - {"roi_heads.box_predictor"} == {f"roi_heads.{head}_head" for head in heads}
    assert ("roi_heads.box_predictor" in found) == (not masks)


def test_what_cannot_be_frozen_is_said():
    with pytest.raises(UserError, match="JitteredRPN is"):
        build_model(frozen_cfg(MODEL__PROPOSAL_GENERATOR__NAME="JitteredRPN"))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_kept_features_change_no_bit_and_are_shared(precision, data, tmp_path, computed):
    settings = {"SOLVER__PRECISION": precision}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrozenFeaturesRCNN, "keep_in", lambda *_: None)
        without = train(data, tmp_path / "else" / "without", **settings)
    assert len(computed) == 2 * ITERATIONS
    computed.clear()
    assert_same(train(data, tmp_path / "first", **settings), without)
    different = len(list((tmp_path / FEATURES).glob("*/*")))
    assert different < 2 * ITERATIONS  # images and flips come again
    assert len(computed) == different + 1  # one to see that those found are right
    computed.clear()
    assert_same(train(data, tmp_path / "second", **settings), without)
    assert len(computed) == 1


def test_other_weights_and_settings_have_their_own(tmp_path):
    def folder(seed: int = 7, **changes) -> Path:
        torch.manual_seed(seed)
        model = build_model(frozen_cfg(**changes))
        model.keep_in(tmp_path)
        return model.kept.folder

    assert folder() == folder()
    others = {folder(8), folder(MODEL__RPN__NMS_THRESH=0.5), folder(SOLVER__PRECISION="bf16")}
    assert len(others | {folder()}) == 4


def test_damaged_records_are_made_anew(data, tmp_path, without):
    train(data, tmp_path / "first")
    for path in (tmp_path / FEATURES).glob("*/*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    damaged = {p: p.read_bytes() for p in (tmp_path / FEATURES).glob("*/*")}
    assert_same(train(data, tmp_path / "second"), without)
    assert all(path.read_bytes() != content for path, content in damaged.items())


def test_records_of_other_code_are_not_used(data, tmp_path, without, monkeypatch):
    compute = FrozenFeaturesRCNN._compute

    def otherwise(model, image):
        return {name: value + 1 for name, value in compute(model, image).items()}

    with monkeypatch.context() as patch:
        patch.setattr(FrozenFeaturesRCNN, "_compute", otherwise)
        assert not torch.equal(
            next(v for k, v in train(data, tmp_path / "first").items() if "mask_fcn1" in k),
            next(v for k, v in without.items() if "mask_fcn1" in k),
        )
    with pytest.warns(UserWarning, match="features are of other code"):
        assert_same(train(data, tmp_path / "second"), without)


def test_an_interruption_changes_no_bit(data, tmp_path, without, monkeypatch):
    before_step = trainer.SeedEveryIteration.before_step

    def stop(hook):
        if hook.trainer.iter == 5:
            raise RuntimeError("stopped")
        before_step(hook)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.SeedEveryIteration, "before_step", stop)
        with pytest.raises(RuntimeError, match="stopped"):
            train(data, tmp_path / "work")
    assert_same(train(data, tmp_path / "work"), without)


def test_losses_are_those_of_the_roi_heads_on_test_proposals(data):
    cfg = frozen_cfg()
    torch.manual_seed(0)
    model = build_model(cfg)
    dicts, _ = load_training_dicts(data.annotations, data.images, data.supervised_ids)
    inputs = next(iter(build_loader(dicts, cfg)))[:1]
    model.eval()
    with torch.no_grad(), EventStorage(0):
        images = model.preprocess_image(inputs)
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features, None)
        model.train()
        truth = [x["instances"] for x in inputs]
        torch.manual_seed(1)
        _, expected = model.roi_heads(images, features, proposals, truth)
        torch.manual_seed(1)
        losses = model(inputs)
    assert losses.keys() == expected.keys() == {"loss_cls", "loss_box_reg", "loss_mask"}
    for name in losses:
        torch.testing.assert_close(losses[name], expected[name])


def test_a_batch_is_each_image_and_zeros():
    first, second = torch.rand(3, 4, 6), torch.rand(3, 5, 2)
    batch = frozen_features._batch([first, second])
    assert batch.shape == (2, 3, 5, 6)
    assert torch.equal(batch[0, :, :4], first)
    assert torch.equal(batch[1, :, :, :2], second)
    assert batch.sum().item() == pytest.approx((first.sum() + second.sum()).item(), rel=1e-5)
