"""Options for speed change no more than the order of sums."""

import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from tiny import tiny_cfg, write_images

from opmask.training import options, trainer
from opmask.training.files import FINAL
from opmask.training.hardware import Hardware


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


def weights(folder, data, **changes) -> dict[str, torch.Tensor]:
    trainer.train(tiny_cfg(3, **changes), data, folder, Hardware(), description="x")
    return torch.load(folder / FINAL, weights_only=True)["model"]


@pytest.mark.slow
def test_a_fused_step_is_the_same_step(data, tmp_path):
    plain = weights(tmp_path / "plain", data)
    fused = weights(tmp_path / "fused", data, SOLVER__FUSED_STEP=True)
    assert plain.keys() == fused.keys()
    for name, value in plain.items():
        torch.testing.assert_close(fused[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_a_fused_step_is_asked_for_and_taken():
    cfg = tiny_cfg(SOLVER__FUSED_STEP=True)
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    options.use_options(cfg, model, optimizer)
    assert all(group["fused"] for group in optimizer.param_groups)
    other = copy.deepcopy(model)
    plain = build_optimizer(tiny_cfg(), other)
    for one in (model, other):
        for number, parameter in enumerate(one.parameters()):
            seeded = torch.Generator().manual_seed(number)
            parameter.grad = torch.randn(parameter.shape, generator=seeded)
    for _ in range(2):
        optimizer.step()
        plain.step()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_compiled_backbone_keeps_the_names_of_its_weights(monkeypatch):
    compiled = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **how: compiled.append((self, how))
    )
    cfg = tiny_cfg(SOLVER__COMPILE_BACKBONE=True)
    model = build_model(cfg)
    before = list(model.state_dict())
    options.use_options(cfg, model, build_optimizer(cfg, model))
    assert compiled == [(model.backbone, {"dynamic": True})]
    assert list(model.state_dict()) == before


def test_without_being_asked_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_: pytest.fail("compiled"))
    cfg = tiny_cfg()
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    options.use_options(cfg, model, optimizer)
    assert not any(group["fused"] for group in optimizer.param_groups)
