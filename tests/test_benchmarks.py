"""What the benchmarks compare computes the same thing; what they write says where it was."""

import copy
import itertools
import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from detectron2.solver import build_optimizer
from detectron2.utils.events import EventStorage
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_cfg, write_images

from benchmarks import __main__ as command_line
from benchmarks import dag, evaluator, models, overlap, timing
from benchmarks.data import miniature_images
from benchmarks.session import Clock, Worker
from benchmarks.timing import Seconds, write
from benchmarks.variants import Job, build, use_heads
from opmask.data.coco import load_training_dicts
from opmask.data.loader import build_loader
from study.analysis.overlap import READINGS, compute
from study.spec.params import load_params


def tiny_batches(cfg, folder, count: int = 3) -> list[list[dict]]:
    data = write_images(folder)
    dicts, _ = load_training_dicts(data.annotations, data.images, data.supervised_ids)
    del dicts[0]["annotations"][0]["segmentation"]  # of a supervised class, but only a box
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


boxes = st.lists(
    st.tuples(*[st.floats(0, 1, width=32)] * 4, st.integers(0, 4), st.sampled_from([1, 3, 7])),
    min_size=1,
    max_size=30,
)


@settings(deadline=None, max_examples=50)
@given(boxes)
def test_the_plain_overlap_is_that_of_the_pipeline(rows):
    values = np.array(rows)
    corners = np.concatenate(
        [np.minimum(values[:, :2], values[:, 2:4]), np.maximum(values[:, :2], values[:, 2:4])],
        axis=1,
    )
    arguments = corners, values[:, 4].astype(int), values[:, 5].astype(int)
    found, wanted = compute(*arguments), overlap.plain(*arguments)
    pd.testing.assert_frame_equal(found[["category_id", *READINGS]], wanted, check_dtype=False)


def test_both_evaluators_are_given_the_same(tmp_path):
    truth, detections = evaluator.synthetic(images=20, objects=150, detections=700)
    (path := tmp_path / "instances.json").write_text(json.dumps(truth))
    found, wanted = (of(path, detections, "segm") for of in (evaluator.ours, evaluator.theirs))
    assert evaluator.compare(found, wanted) < 1e-6
    assert 5 < wanted["all"][0] < 95
    found["voc"][0] += 0.01
    with pytest.raises(ValueError, match="differ on voc"):
        evaluator.compare(found, wanted)


def test_runs_share_their_ground_truth():
    (a, found), (b, others) = (evaluator.synthetic(20, 50, 200, run) for run in (1, 2))
    assert a == b and len(found) == len(others) == 200
    assert found != others


def test_interleaved_takes_turns(monkeypatch):
    calls, now = [], [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def act(name: str, seconds: float) -> float:
        calls.append(name)
        now[0] += seconds * (5 if len(calls) > 6 else 1)  # a machine that becomes busy
        return seconds

    actions = {"a": partial(act, "a", 1), "b": partial(act, "b", 3)}
    seconds = timing.interleaved(actions, 3)
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert seconds.wall["a"].tolist() == [1, 1, 5]
    assert seconds.median("b") == {"wall_s": 3, "cpu_s": 3}
    assert seconds.ratio("b", "a") == {"ratio": 3, "cpu_ratio": 3}


def test_nested_parts_do_not_count_twice(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("benchmarks.session.time.perf_counter", lambda: now[0])
    clock = Clock("cpu")
    with clock("outer"):
        now[0] += 1
        with clock("inner"):
            now[0] += 10
        now[0] += 2
    now[0] += 100
    with clock("inner"):
        now[0] += 5
    assert clock.seconds == {"outer": 3, "inner": 15}


def test_a_clone_is_recorded_with_its_own_commits(tmp_path):
    runs = {
        "a-0": {"wall_s": 100, "peak_memory_gib": 0.5, "date": "2026-01-03"},
        "b-0": {"wall_s": 60, "peak_memory_gib": 0.75, "date": "2026-01-02", "dirty": True},
    }
    for run, about in runs.items():
        file = tmp_path / "runs" / "miniature" / "train" / run / "provenance.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({**about, "commit": "0123456789"}))
    row = dag.records(tmp_path, "miniature")
    commits = "0123456789; 0123456789+changes"
    expected = {"runs": 2, "training_s": 160, "peak_memory_gib": 0.75}
    assert row == expected | {"commit": commits, "date": "2026-01-03"}
    (written,) = write(pd.DataFrame([row]), tmp_path / "out.csv").to_dict("records")
    assert written["commit"] == commits
    assert written["date"] == "2026-01-03"
    assert written["versions"].startswith("Python ")


@pytest.mark.slow
def test_a_session_answers_what_a_worker_asks(tmp_path):
    miniature_images(load_params()["scales"]["smoke"], tmp_path / "images")
    with Worker(Job("opmask", scale="smoke", data=str(tmp_path / "images")), threads=1) as worker:
        assert worker.about["precision"] == "bf16"
        assert set(worker.ask("parts")["parts"]) == {
            "loader",
            "backbone",
            "RPN",
            "RoI sampling",
            "box head",
            "prior",
            "mask head",
            "other",
            "backward",
            "optimiser",
        }
        assert worker.ask("train", count=1)["peak_memory_gib"] > 0.1
        assert worker.ask("load", count=2)["cpu_s"] > 0
        assert worker.ask("infer", count=2)["detections"] >= 0
        with pytest.raises(AttributeError, match="no_such_thing"):
            worker.ask("no_such_thing")


def test_a_row_is_of_one_step(monkeypatch):
    """Two models do 4 steps of 2 images in 8 s and in 4 s; processor time is what they answer."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    class Model:
        about = {"precision": "bf16", "batch": 2, "parameters_m": 1.5}

        def __init__(self, seconds: float):
            self.seconds = seconds

        def ask(self, what: str, count: int) -> dict:
            assert (what, count) == ("train", 4)
            now[0] += self.seconds * count
            return {"peak_memory_gib": 0.5, "cpu_s": 3 * self.seconds * count}

    options = command_line.parser().parse_args(["--repeats", "2"])
    turns = models.Turns("train", count=4, repeats=9)
    first, second = turns.rows({"opmask": Model(2), "plain": Model(1)}, options)
    assert first["wall_s"] == 2 and first["cpu_s"] == 6 and first["ratio"] == 1
    assert second == {
        "variant": "plain",
        **Model.about,
        "wall_s": 1,
        "cpu_s": 3,
        "ratio": 0.5,
        "cpu_ratio": 0.5,
        "images_per_s": 2,
        "peak_memory_gib": 0.5,
        "repeats": 2,
        "count": 4,
    }


def test_processes_side_by_side_share_the_time():
    """Two processes in 4 s do as many steps as one in 2 s: of the rounds' ratios 2.5, 3 and 4."""
    seconds = {models.OURS: [4.0, 4.0, 8.0], "one": [5.0, 6.0, 16.0], "two": [4.0, 8.0, 8.0]}
    wall = pd.DataFrame(seconds)
    rows = models.compare(Seconds(wall, wall), {models.OURS: 2, "one": 1, "two": 2})
    assert [row["ratio"] for row in rows] == [1, 3, 1]
    assert [row["steps_per_s"] for row in rows] == [models.STEPS * n for n in (1 / 2, 1 / 6, 1 / 4)]


def test_medians_are_over_starts_of_the_same_row():
    def start(*seconds):
        names = ("opmask", "plain")
        rows = zip(names, seconds, strict=True)
        return [{"variant": name, "wall_s": s, "part": "a", "repeats": 4} for name, s in rows]

    rows = models.medians([start(1, 9), start(3, 2), start(2, 4)])
    assert [(r["variant"], r["wall_s"], r["part"], r["repeats"], r["starts"]) for r in rows] == [
        ("opmask", 2, "a", 4, 3),
        ("plain", 4, "a", 4, 3),
    ]


def test_csv_says_where_it_was_measured(tmp_path, capsys):
    def small(_options):
        return pd.DataFrame([{"seconds": 1.5}])

    dag.small = small
    command_line.BENCHMARKS["small"] = ("dag.small", "a test")
    try:
        command_line.run(["small", "--out", str(tmp_path)])
    finally:
        del command_line.BENCHMARKS["small"], dag.small
    row = pd.read_csv(tmp_path / "small.csv").iloc[0]
    assert row["seconds"] == 1.5
    for column in ("machine", "cpu", "versions", "commit", "date"):
        assert row[column]
    assert f"torch {torch.__version__.split('+')[0]}" in row["versions"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stepp"], "'stepp' is unknown; there are step, machine"),
        (["noop"], "noop: needs --clone"),
        (["step", "--scale", "coco_small"], "there are miniature, coco"),
        (["step", "--variants", "mine"], "--variants: 'mine' is unknown; there are opmask"),
        (["overlap", "--coco-boxes", "nowhere.npz"], "nowhere.npz"),
    ],
)
def test_mistakes_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.run(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
