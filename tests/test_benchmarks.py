"""What the benchmarks compare computes the same thing; what they write says where it was."""

import copy
import itertools
import json
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from detectron2.solver import build_optimizer
from detectron2.utils.events import EventStorage
from tiny import tiny_cfg, write_images

from benchmarks import __main__ as command_line
from benchmarks import evaluator, models, timing
from benchmarks.models import Worker
from benchmarks.session import Job, build, miniature_images, use_heads
from opmask.data.coco import load_training_dicts
from opmask.data.loader import build_loader
from opmask.errors import UserError
from study.spec.params import load_params


def tiny_batches(cfg, folder, count: int = 3) -> list[list[dict]]:
    data = write_images(folder)
    content = json.loads(data.annotations.read_text())
    del content["annotations"][0]["segmentation"]  # of a supervised class, but only a box
    data.annotations.write_text(json.dumps(content))
    dicts, _ = load_training_dicts(data.annotations, data.images, data.supervised_ids)
    return list(itertools.islice(build_loader(dicts, cfg), count))


def train(model: torch.nn.Module, cfg, batches: list[list[dict]]) -> list[dict[str, float]]:
    optimizer, found = build_optimizer(cfg, model), []
    for seed, batch in enumerate(batches):
        torch.manual_seed(seed)
        with EventStorage():
            losses = model(copy.deepcopy(batch))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        found.append({name: loss.item() for name, loss in losses.items()})
    return found


@pytest.mark.parametrize("masks", ["polygon", "bitmask"])
@pytest.mark.parametrize("samples", [0, 1])
def test_training_as_it_is_run_equals_the_plain_transcription(masks, samples, tmp_path):
    """Losses of several steps, and by them the gradients: layout, RoIAlign's gradient, mask
    layers, the one slice of the class activation maps."""
    changes = {f"MODEL__ROI_{h}_HEAD__POOLER_SAMPLING_RATIO": samples for h in ("BOX", "MASK")}
    # RoIs that do not hang on the last bits of the RPN's output
    changes |= {"MODEL__PROPOSAL_GENERATOR__NAME": "JitteredRPN", "INPUT__MASK_FORMAT": masks}
    cfg = tiny_cfg(**changes)
    ours = build(cfg, tuned=True)
    torch.nn.init.normal_(ours.roi_heads.mask_head.predictor.weight, std=0.1)
    plain_cfg = cfg.clone()
    use_heads(plain_cfg, "plain")
    plain = build(plain_cfg, tuned=False)
    plain.load_state_dict(ours.state_dict())
    batches = tiny_batches(cfg, tmp_path)
    found, wanted = (train(m.train(), cfg, batches) for m in (ours, plain))
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine == pytest.approx(theirs, rel=2e-3, abs=1e-4)
    assert found[0]["loss_mask"] != pytest.approx(found[-1]["loss_mask"], rel=2e-3)


def test_detectron2s_own_heads_are_the_baseline(tmp_path):
    """The same box head and mask head in StandardROIHeads, every class supervised: equal losses."""
    cfg = tiny_cfg(MODEL__PROPOSAL_GENERATOR__NAME="JitteredRPN")
    cfg.MODEL.OPMASK.PRIOR = False
    cfg.MODEL.OPMASK.SUPERVISED_CLASSES = [0, 1, 2, 3]
    ours = build(cfg, tuned=True)
    stock_cfg = cfg.clone()
    use_heads(stock_cfg, "detectron2")
    stock = build(stock_cfg, tuned=False)
    stock.load_state_dict(ours.state_dict())
    batches = tiny_batches(cfg, tmp_path)
    for batch in batches:  # stock detectron2 does not know of objects without a mask
        for image in batch:
            image["instances"].gt_has_mask[:] = True
    found, wanted = (train(m.train(), cfg, batches) for m in (ours, stock))
    assert found[0] == pytest.approx(wanted[0], rel=1e-3, abs=1e-5)


@pytest.mark.slow
def test_bf16_trains_like_fp32(tmp_path):
    """The first losses of the heads differ by 0.5 % at most; after 200 iterations every loss does
    by 5 %, in the median of the last 50. RoIs are the same in both, not those of either's RPN."""
    changes = {f"MODEL__ROI_{h}_HEAD__POOLER_SAMPLING_RATIO": 1 for h in ("BOX", "MASK")}
    changes |= {"MODEL__PROPOSAL_GENERATOR__NAME": "JitteredRPN", "SOLVER__BASE_LR": 0.005}
    cfg = tiny_cfg(200, MODEL__BACKBONE__FREEZE_AT=5, INPUT__MIN_SIZE_TRAIN=[64], **changes)
    losses = {}
    for precision in ("fp32", "bf16"):
        cfg.SOLVER.PRECISION = precision
        batches = tiny_batches(cfg, tmp_path, 200)
        losses[precision] = pd.DataFrame(train(build(cfg, tuned=True).train(), cfg, batches))
    error = losses["bf16"] / losses["fp32"] - 1
    heads = ["loss_cls", "loss_box_reg", "loss_mask"]
    assert error.loc[0, heads].abs().max() < 0.005
    assert error.loc[0].abs().max() > 0  # it is another arithmetic
    last = {precision: frame[150:].median() for precision, frame in losses.items()}
    assert last["bf16"].to_dict() == pytest.approx(last["fp32"].to_dict(), rel=0.05)
    assert last["bf16"]["loss_mask"] < 0.95 * losses["bf16"].loc[0, "loss_mask"]


def test_both_evaluators_are_given_the_same(tmp_path):
    truth, detections = evaluator.synthetic(images=20, objects=150, detections=700)
    (path := tmp_path / "instances.json").write_text(json.dumps(truth))
    found, wanted = (of(path, detections) for of in (evaluator.ours, evaluator.pycocotools))
    pd.testing.assert_frame_equal(found, wanted, rtol=0, atol=1e-6)
    assert list(found) == ["voc", "nonvoc", "all"] and 5 < wanted.loc["AP", "all"] < 95


def test_runs_share_their_ground_truth():
    (a, found), (b, others) = (evaluator.synthetic(20, 50, 200, run) for run in (1, 2))
    assert a == b and len(found) == len(others) == 200
    assert found != others


def test_interleaved_takes_turns(monkeypatch):
    calls, now = [], [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def act(name: str, seconds: float) -> dict[str, float]:
        calls.append(name)
        now[0] += seconds * (5 if len(calls) > 6 else 1)  # a machine that becomes busy
        return {"cpu_s": 2 * seconds}

    actions = {"a": partial(act, "a", 1), "b": partial(act, "b", 3)}
    rows = timing.interleaved(actions, 3)
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert rows.index.tolist() == ["a", "b"] and rows.index.name == "way"
    assert rows.loc["a"].to_dict() == {"wall_s": 1, "cpu_s": 2, "ratio": 1, "cpu_ratio": 1}
    assert rows.loc["b"].to_dict() == {"wall_s": 3, "cpu_s": 6, "ratio": 3, "cpu_ratio": 3}


@pytest.mark.slow
def test_a_session_answers_what_a_worker_asks(tmp_path):
    miniature_images(load_params()["scales"]["smoke"]["data"], tmp_path / "images")
    with Worker(Job("opmask", scale="smoke", data=str(tmp_path / "images")), threads=1) as worker:
        assert worker.start("ready").result()["precision"] == "bf16"
        assert worker.start("train", 1).result()["peak_memory_gib"] > 0.1
        assert worker.start("train", 1).result()["cpu_s"] > 0
        with pytest.raises(AttributeError, match="no_such_thing"):
            worker.start("no_such_thing").result()


class FakeWorker:
    """Does things in `seconds` each of a clock that starts at `now`; twice that in CPU time."""

    def __init__(self, now: list[float], seconds: float, beside: bool = False):
        self.now, self.seconds = now, 0 if beside else seconds
        self.cpu = 2 * seconds

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def start(self, what: str, count: int = 0) -> Future:
        self.now[0] += self.seconds * count
        answer = {"precision": "bf16", "batch": 2} if what == "ready" else {"images": 2 * count}
        (future := Future()).set_result({**answer, "cpu_s": self.cpu * count})
        return future


def test_a_row_is_of_one_step_and_ratios_of_an_image(monkeypatch):
    """One model does a step of 2 images in 2 s, two side by side one each in 3 s."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    pair = [FakeWorker(now, 3), FakeWorker(now, 3, beside=True)]
    teams = {"one": [FakeWorker(now, 2)], "two": pair}
    first, second = models.race(teams, 4, 2).reset_index().to_dict("records")
    assert first["wall_s"] == 2 and first["cpu_s"] == 4 and first["ratio"] == 1
    assert second == {
        "variant": "two",
        "precision": "bf16",
        "batch": 2,
        "processes": 2,
        "wall_s": 3,
        "cpu_s": 12,
        "ratio": 0.75,
        "cpu_ratio": 1.5,
        "images_per_s": 4 / 3,
    }


def test_medians_are_over_processes_started_anew(monkeypatch):
    """Of three starts, in each of which a step takes the same time throughout."""
    now, asked = [0.0], []
    seconds = {"opmask": iter([9, 2, 4]), "plain": iter([1, 3, 2])}

    def worker(job, threads):
        asked.append((job.variant, threads, Path(job.data).is_dir(), job.batch))
        return FakeWorker(now, next(seconds[job.variant]))

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(models, "Worker", worker)
    monkeypatch.setattr(models, "miniature_images", lambda settings, folder: None)
    teams = {"opmask": models.Team("opmask"), "plain": models.Team("plain", threads=2)}
    options = command_line.parser().parse_args(["--batch", "8"])
    rows = models.contest(options, teams, steps=4, repeats=2, starts=3)
    assert asked == [("opmask", 1, True, 8), ("plain", 2, True, 8)] * 3
    assert rows[["variant", "wall_s"]].values.tolist() == [["opmask", 4], ["plain", 2]]
    assert rows.loc[0, ["scale", "device", "steps", "starts"]].tolist() == [
        "miniature",
        "cpu",
        4,
        3,
    ]


def test_costs_are_of_what_was_trained_to_the_baseline(tmp_path, monkeypatch):
    """A step of the baseline takes 2 s, of Mask^X 3; each has its own weights."""
    now, asked = [0.0], {}
    runs = tmp_path / "runs" / "miniature" / "train"
    monkeypatch.setattr(models, "Paths", SimpleNamespace(of=lambda _: SimpleNamespace(train=runs)))
    options = command_line.parser().parse_args(["--repeats", "2"])
    with pytest.raises(UserError, match=r"maskrcnn-R50-voc-0.*is missing: train `-S suite=rivals`"):
        models.costs(options)
    for name in ("maskx", "maskrcnn"):
        (runs / f"{name}-R50-voc-0").mkdir(parents=True)
        (runs / f"{name}-R50-voc-0" / "model_final.pth").touch()

    def worker(job, threads):
        asked[job.variant] = job.weights
        return FakeWorker(now, {"maskrcnn": 2, "maskx": 3}[job.variant])

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(models, "Worker", worker)
    monkeypatch.setattr(models, "miniature_images", lambda settings, folder: None)
    rows = models.costs(options)
    assert rows["variant"].tolist() == ["maskrcnn", "maskx"]
    assert rows["ratio"].tolist() == rows["test_ratio"].tolist() == [1, 1.5]
    assert asked["maskx"].endswith("maskx-R50-voc-0/model_final.pth")


def test_csv_says_where_it_was_measured(tmp_path, monkeypatch):
    def small(_options):
        """A test."""
        return pd.DataFrame([{"seconds": 1.5}])

    monkeypatch.setitem(command_line.BENCHMARKS, "small", small)
    command_line.run(["small", "--scale", "coco", "--out", str(tmp_path)])
    row = pd.read_csv(tmp_path / "small.csv").iloc[0]
    assert row["seconds"] == 1.5
    for column in ("machine", "cpu", "versions", "commit", "date"):
        assert row[column]
    assert f"torch {torch.__version__.split('+')[0]}" in row["versions"]


def test_another_scale_has_a_file_of_its_own(tmp_path, monkeypatch):
    def step(_options):
        """A test."""
        return pd.DataFrame([{"seconds": 1.5}])

    monkeypatch.setitem(command_line.BENCHMARKS, "step", step)
    monkeypatch.setattr(command_line, "OF_A_MODEL", (step,))
    command_line.run(["step", "--scale", "coco", "--out", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["step-coco.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stepp"], "'stepp' is unknown; there are step, machine"),
        (["step", "--scale", "coco_small"], "images of yours; there are miniature, coco"),
    ],
)
def test_mistakes_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.run(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
