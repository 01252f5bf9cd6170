"""Shared prefixes: a branch of a longer training equals a training of its own, bit for bit."""

import json
from pathlib import Path

import pytest
import torch
from tiny import tiny_cfg, write_images

from opmask.training import trainer
from opmask.training.trainer import Hardware
from opmask.training.trunk import Trunk
from study.runs.work import branch_points
from study.spec.params import load_params
from study.spec.run import parse_run, specification

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


def cfg(max_iter: int, step: int):
    """Warm-up over five iterations: rates that depend on the length in their last bits."""
    result = tiny_cfg(max_iter, SOLVER__WARMUP_ITERS=5, SOLVER__CHECKPOINT_PERIOD=3)
    result.SOLVER.STEPS = (step,)
    return result


def train(cfg, data, work: Path, trunk: Trunk | None = None) -> dict[str, torch.Tensor]:
    final = trainer.train(cfg, data, work, Hardware(), description="test", trunk=trunk)
    return torch.load(final, weights_only=True)["model"]


@pytest.mark.slow
@pytest.mark.parametrize("first", ["long", "short"])
def test_a_branch_equals_a_training_of_its_own(first, data, tmp_path):
    schedules = {"long": (cfg(13, 11), (6, 10)), "short": (cfg(9, 7), (6,))}
    second = "short" if first == "long" else "long"
    for name in (first, second):
        config, points = schedules[name]
        found = train(config, data, tmp_path / name, Trunk(tmp_path / "trunk", points))
    alone = train(schedules[second][0], data, tmp_path / "alone")
    assert all(torch.equal(found[key], alone[key]) for key in alone)
    assert found.keys() == alone.keys()

    def iterations(work):
        lines = (work / "metrics.json").read_text().splitlines()
        return [json.loads(line)["iteration"] for line in lines]

    # it did branch: the other's log is the beginning of its own
    assert iterations(tmp_path / second) == iterations(tmp_path / "alone")
    begun = json.loads((tmp_path / second / "sessions.jsonl").read_text().splitlines()[-1])
    assert begun["seconds"] > 0 and begun["shared_iterations"] == 6
    names = {path.name for path in (tmp_path / "trunk").iterdir()}
    assert "model_0000005.pth" in names


@pytest.mark.slow
def test_it_starts_where_the_trunk_ends_and_not_before(data, tmp_path, monkeypatch):
    trunk = Trunk(tmp_path / "trunk", (6,))
    train(cfg(9, 7), data, tmp_path / "a", trunk)
    seen = []
    monkeypatch.setattr(
        trainer.SeedEveryIteration, "before_step", lambda hook: seen.append(hook.trainer.iter)
    )
    train(cfg(9, 7), data, tmp_path / "b", trunk)
    assert seen == [6, 7, 8]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shuffled", "random_class"])
def test_what_a_control_draws_is_the_same_after_a_resume(kind, data, tmp_path):
    config = tiny_cfg(4, MODEL__OPMASK__PRIOR_KIND=kind)
    trunk = Trunk(tmp_path / "trunk", (2,))
    whole, resumed = (train(config, data, tmp_path / name, trunk) for name in "ab")
    (session,) = trainer.sessions(tmp_path / "b")
    assert session["shared_iterations"] == 2
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def points(name: str, *others: str, **changes) -> tuple[int, ...]:
    params = {**PARAMS, "scale": "coco", "runs": [name, *others], "seeds": [0], **changes}
    return branch_points(specification(parse_run(name, 0, params), params), params)


def test_branch_points_of_the_papers_schedules():
    """By hand: the first steps are at 60k (1x), 120k (130k) and 210k (3x)."""
    one, middle, three = (f"opmask-R50-voc{end}" for end in ("-1x", "", "-3x"))
    assert points(three, middle, one) == (59_999, 119_999, 209_999)
    assert points(middle, three, one) == (59_999, 119_999)
    assert points(one, three, middle) == (59_999,)
    assert points(middle) == ()


def test_what_differs_at_test_alone_shares_its_training():
    first, second = "opmask-R50-voc", "opmask_shuffled_test-R50-voc"
    assert points(first, second) == points(second, first) == (119_999,)
    assert points(second, "opmask_random_test-R50-voc") == (119_999,)
    assert points("opmask_shuffled-R50-voc", second, first) == ()


@pytest.mark.parametrize(
    "other",
    ["opmask-R50-nonvoc-3x", "opmask-R101-voc-3x", "maskrcnn-R50-voc-3x", "opmask-R50-voc-search"],
)
def test_runs_that_differ_in_more_than_schedule_share_nothing(other):
    assert points("opmask-R50-voc", other) == ()
    assert points(other, "opmask-R50-voc") == ()


def test_seeds_share_nothing():
    params = {**PARAMS, "scale": "coco", "runs": ["opmask-R50-voc"], "seeds": [0, 1]}
    run = parse_run("opmask-R50-voc", 0, params)
    assert branch_points(specification(run, params), params) == ()
