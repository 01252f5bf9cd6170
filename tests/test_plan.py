"""Runs as the user writes them, and the one line that says what is wrong with them."""

import copy

import pytest
from parameters import PARAMS, copy_params

from opmask.errors import UserError
from study.spec.params import load_params
from study.spec.run import Run, all_runs, parse_run, specification


def with_params(**changes) -> dict:
    return {**copy.deepcopy(PARAMS), **changes}


def test_a_run_takes_the_global_schedule_unless_it_names_one():
    run = parse_run("opmask-R50-voc", 1, with_params(schedule="1x"))
    assert run == Run("opmask-R50-voc", "opmask", "R50", "voc", "1x", 1)
    assert run.key == "opmask-R50-voc-1"
    assert parse_run("opmask-R50-voc-3x", 0, with_params(schedule="1x")).schedule == "3x"


def test_a_name_is_taken_apart_and_its_method_exchanged():
    run = Run.from_name("opmask-R50-voc-3x", "130k", 2)
    assert run.configuration == ("opmask", "R50", "voc", "3x") and run.kind == "opmask-R50"
    assert run.with_method("maskrcnn") == Run.from_name("maskrcnn-R50-voc-3x", seed=2)
    assert Run.from_name("opmask-R50-voc", "130k").with_method("x").key == "x-R50-voc-0"


@pytest.mark.parametrize("name", ["", "opmask-R50", "a-b-c-d-e", "a--c", "a-b-c-"])
def test_what_has_not_three_or_four_parts_is_no_run(name):
    with pytest.raises(ValueError):
        Run.from_name(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("opmask-R50", "METHOD-BACKBONE-SUPERVISED"),
        ("mask-R50-voc", "method.*'mask' is unknown.*fasterrcnn, maskrcnn, maskrcnn7, opmask"),
        ("opmask-R18-voc", "backbone.*'R18' is unknown.*R50, R101"),
        ("opmask-R50-pascal", "split.*'pascal' is unknown.*voc, nonvoc, voc20, all"),
        ("opmask-R50-voc-2x", "schedule.*'2x' is unknown.*1x, 130k, 3x"),
    ],
)
def test_unknown_parts_are_named_with_what_exists(name, message):
    with pytest.raises(UserError, match=message):
        parse_run(name, 0, PARAMS)


def test_every_run_with_every_seed_once():
    runs = all_runs(with_params(runs=["opmask-R50-voc", "opmask-R50-all"], seeds=[0, 3]))
    assert [r.key for r in runs] == [
        "opmask-R50-voc-0", "opmask-R50-voc-3", "opmask-R50-all-0", "opmask-R50-all-3",
    ]  # fmt: skip


def specify(name: str, params: dict) -> dict:
    return specification(parse_run(name, 0, params), params)


def test_only_what_a_run_uses_is_in_its_specification():
    before = {name: specify(name, PARAMS) for name in ("opmask-R50-voc", "opmask-R50-voc-3x")}
    changed = copy.deepcopy(PARAMS)
    changed["schedules"]["3x"]["max_iter"] += 1000
    changed["methods"]["maskrcnn"]["mask_convs"] = 5
    changed["splits"] = {"mine": ["cat"]}
    assert specify("opmask-R50-voc", changed) == before["opmask-R50-voc"]
    assert specify("opmask-R50-voc-3x", changed) != before["opmask-R50-voc-3x"]
    assert specify("opmask-R50-mine", changed)["splits"] == {"mine": ["cat"]}


def test_the_papers_schedules_at_coco_scale():
    params = with_params(scale="coco")
    lengths = {s: specify(f"opmask-R50-voc-{s}", params) for s in ("1x", "130k", "3x")}
    assert {s: (c["max_iter"], c["steps"]) for s, c in lengths.items()} == {
        "1x": (90000, [60000, 80000]),
        "130k": (130000, [120000]),
        "3x": (270000, [210000, 250000]),
    }


def test_scale_and_schedule_are_checked_when_params_are_read(tmp_path):
    copy_params(tmp_path)
    path = tmp_path / "params.yaml"
    text = path.read_text()
    for old, new, message in [
        (
            "scale: miniature",
            "scale: huge",
            "scale: 'huge' is unknown.*coco_small, coco_small_gpu, miniature",
        ),
        ("schedule: 130k", "schedule: 9x", "schedule: '9x' is unknown.*1x, 130k, 3x"),
        ("suite: paper", "suite: papers", "suite: 'papers' is unknown.*paper, table1, headline"),
        ("seeds: []", "seed: 0", "seed: unknown key; did you mean 'seeds'"),
        ("seeds: []", "seeds: [0", "not valid YAML"),
    ]:
        assert old in text
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(UserError, match="^params.yaml: .*" + message):
            load_params(path)
    path.unlink()
    with pytest.raises(UserError, match="^params.yaml: cannot be read"):
        load_params(path)


def test_a_step_at_or_after_the_end_of_a_short_run_is_left_out():
    params = copy.deepcopy(PARAMS)
    params["scales"][params["scale"]]["schedule_factor"] = 0.00002  # 3x: 5.4, 4.2 and 5.0
    content = specify("opmask-R50-voc-3x", params)
    assert (content["max_iter"], content["steps"]) == (5, [4])
