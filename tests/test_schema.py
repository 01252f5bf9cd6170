"""params.yaml: what it may say is accepted as it is; all else is refused in one telling line."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from opmask.data import splits
from opmask.errors import UserError
from opmask.model.weights import _TORCHVISION_FILES
from pipeline import params as page
from study.analysis.overlap import READINGS
from study.spec import schema, schema_rules
from study.spec.params import data_root, load_params
from study.spec.run import all_runs, shared_specifications, specification
from study.spec.schema import validate
from study.spec.schema_table import rows

ROOT = Path(__file__).parents[1]
PARAMS = load_params(ROOT / "params.yaml")
DELETED = object()


def changed(path: str, value: object = DELETED) -> dict:
    """The committed parameters with one of them set, or deleted; `/` between the keys."""
    params = copy.deepcopy(PARAMS)
    here = params
    *above, last = path.split("/")
    for key in above:
        here = here[int(key)] if isinstance(here, list) else here[key]
    last = int(last) if isinstance(here, list) else last
    if value is DELETED:
        del here[last]
    else:
        here[last] = value
    return params


def refusal(params: object) -> str:
    with pytest.raises(UserError) as caught:
        validate(params)
    (line,) = str(caught.value).splitlines()
    return line


def test_the_committed_file_is_valid_and_stays_what_yaml_gives():
    assert yaml.safe_load((ROOT / "params.yaml").read_text()) == PARAMS
    assert type(PARAMS["scales"]["coco"]["schedule_factor"]) is float
    for scale in PARAMS["scales"]:
        for schedule in PARAMS["schedules"]:
            params = {**PARAMS, "scale": scale, "schedule": schedule}
            if scale in ("miniature", "smoke"):  # no warm start for lite0 there, nor a need for it
                assert PARAMS["backbones"]["lite0"]["weights"]
            before = copy.deepcopy(params)
            assert validate(params) is None
            assert params == before


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "methods/opmask",
            {"piror": True, "mask_head": "PriorMaskHead", "mask_convs": 7},
            "params.yaml: methods.opmask.piror: unknown key; did you mean 'prior'? "
            "(there are mask_head, mask_convs, prior, mask_gradients, config)",
        ),
        (
            "bootstrap",
            {"resample": 1000, "seed": 0},
            "params.yaml: bootstrap.resample: unknown key; did you mean 'resamples'? "
            "(there are resamples, seed)",
        ),
        (
            "scales/coco/precision",
            DELETED,
            "params.yaml: scales.coco.precision: is missing; it is fp32 or bf16",
        ),
        (
            "scales/coco",
            {"precison" if k == "precision" else k: v for k, v in PARAMS["scales"]["coco"].items()},
            "params.yaml: scales.coco.precison: unknown key; did you mean 'precision'? (there are "
            "data, schedule_factor, held_out_images, checkpoint_period, precision, config, "
            "warm_start)",
        ),
    ],
)
def test_the_whole_line_of_a_misspelt_or_missing_key(path, value, message):
    assert refusal(changed(path, value)) == message


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("scale", "minature", "scale: 'minature' is unknown; did you mean 'miniature'?"),
        ("scale", "../x", "scale: '../x' is not a name without '/'"),
        ("schedule", "9x", "schedule: '9x' is unknown; there are 1x, 130k"),
        ("data_root", "", "data_root: '' is not text, not empty"),
        ("data_root", "a\0b", "data_root: 'a\\x00b' is not text"),
        ("seeds", [], "seeds: [] is not a non-empty list of values, each a whole number from 0"),
        ("seeds", ["a"], "seeds.0: 'a' is not a whole number from 0 to"),
        ("seeds", [-1], "seeds.0: -1 is not a whole number"),
        ("seeds", [0, 0.5], "seeds.1: 0.5 is not a whole number"),
        ("seeds", [True], "seeds.0: true is not a whole number"),
        ("seeds", [0, 1, 0], "seeds: named more than once: 0"),
        ("seed", [0], "seed: unknown key; did you mean 'seeds'?"),
        ("runs", "opmask-R50-voc", "runs: 'opmask-R50-voc' is not a non-empty list"),
        ("runs", ["opmask-R50"], "runs: 'opmask-R50' is not METHOD-BACKBONE-SUPERVISED"),
        ("runs", ["opmsk-R50-voc"], "method: 'opmsk' is unknown; did you mean 'opmask'?"),
        ("runs", ["opmask-R5-voc"], "backbone: 'R5' is unknown; did you mean 'R50'? (there"),
        ("runs", ["opmask-R50-vok"], "split: 'vok' is unknown; did you mean 'voc'?"),
        ("runs", ["opmask-R50-voc-2x"], "schedule: '2x' is unknown; there are 1x"),
        ("runs", ["opmask-R50-voc"] * 2, "runs: named more than once: opmask-R50-voc"),
        ("splits", ["cat"], "splits: ['cat'] is not a mapping"),
        ("splits/mine", [], "splits.mine: [] is not a non-empty list"),
        ("splits/mine", "cat", "splits.mine: 'cat' is not a non-empty list"),
        ("splits/mine", ["cat", "cat"], "splits.mine: named more than once: cat"),
        ("splits/voc", ["cat"], "splits.voc: this name is taken by a split of the paper"),
        ("splits/my-pets", ["cat"], "splits: its key 'my-pets' is not a name without '-'"),
        ("splits", {2: ["cat"]}, "splits: its key 2 is not a name"),
        ("backbones/mine", {"weights": "none"}, "backbones.mine: has not one of the keys"),
        ("backbones/mine", {"timm": "a", "resnet": 50}, "backbones.mine: has not one of the"),
        ("backbones/mine", "R50", "backbones.mine: 'R50' is not a mapping with resnet, timm"),
        ("backbones/mine", {"timm": "a", "norm": 1}, "backbones.mine.norm: unknown key; there"),
        ("backbones/mine", {"resnet": 18}, "backbones.mine.resnet: 18 is not 50 or 101"),
        ("backbones/mine", {"resnet": 50.0}, "backbones.mine.resnet: 50.0 is not 50 or 101"),
        ("backbones/R50/weights", None, "backbones.R50.weights: null is not text"),
        ("backbones/R50/sha256", "0x", "backbones.R50.sha256: '0x' is not 8 to 64 hexadecimal"),
        ("methods/opmask/prior", "yes", "methods.opmask.prior: 'yes' is not true or false"),
        ("methods/opmask/mask_head", "none", "methods.opmask.prior: true needs a mask_head"),
        ("methods/opmask/mask_head", True, "mask_head: true is not none or a mask head's name"),
        ("methods/opmask/config", {"fpn": 1}, "methods.opmask.config: its key 'fpn' is not a key"),
        (
            "methods/opmask/config",
            {"MODEL.MASK_ON": False},
            "methods.opmask.config.MODEL.MASK_ON: is not set here: methods decides it",
        ),
        ("methods/opmask/mask_convs", DELETED, "methods.opmask.mask_convs: is missing"),
        (
            "methods/opmask/mask_convs",
            0,
            "methods.opmask.mask_convs: 0 is not a whole number from 1",
        ),
        ("methods/opmask/prior", DELETED, "methods.opmask.mask_gradients: true needs prior"),
        ("methods/opmask/mask_gradients", DELETED, "methods.opmask.mask_gradients: is missing"),
        ("schedules/3x/steps", [2, 1], "schedules.3x.steps: [2, 1] do not ascend to below max_it"),
        ("schedules/1x/max_iter", 80000, "do not ascend to below max_iter, 80000"),
        ("schedules/search/hold_out", False, "schedules.search.snapshot_period: needs hold_out"),
        ("bootstrap/resamples", 1e3, "bootstrap.resamples: 1000.0 is not a whole number from 1"),
        ("cam/threshold", 1, "cam.threshold: 1 is not a number, 0 or more, below 1"),
        ("ambiguity/threshold", float("nan"), "ambiguity.threshold: nan is not a number"),
        ("overlap/reading", "mean", "overlap.reading: 'mean' is not other_class, other_class_p"),
        ("overlap/reading", "other_clas", "did you mean 'other_class'?"),
        ("hardware/gpus", "all", "hardware.gpus: 'all' is not auto or a whole number from 0 to"),
        ("hardware/side_by_side", 0, "side_by_side: 0 is not auto or a whole number from 1 to"),
        ("hardware/side_by_side", "two", "side_by_side: 'two' is not auto or a whole number"),
        ("hardware/machine_rank", 1, "hardware.machine_rank: 1 is not below machines, 1"),
        ("hardware/machines", 2, "hardware.dist_url: auto is for one machine; 2 need tcp://"),
        ("hardware/dist_url", "host:1", "hardware.dist_url: 'host:1' is not auto or tcp://HOST"),
        ("scales/coco/data/kind", "voc", "scales.coco.data.kind: 'voc' is not miniature or coco"),
        ("scales/coco/data/kind", DELETED, "scales.coco.data.kind: is missing; it is miniature"),
        ("scales/coco/data/seed", 0, "scales.coco.data.seed: unknown key; there are kind, train"),
        ("scales/coco/data/check_images", "all", "check_images: 'all' is not header, exist or d"),
        ("scales/coco/data/val_images", DELETED, "scales.coco.data.val_images: is missing; it is"),
        (
            "scales/smoke/data/image_size",
            63,
            "data.image_size: 63 is not a whole number, 64 or more",
        ),
        ("scales/smoke/held_out_images", 48, "held_out_images: 48 is not below data.train_im"),
        ("scales/coco/schedule_factor", "1e-3", "schedule_factor: '1e-3' is not a number, above"),
        ("scales/coco/schedule_factor", float("inf"), "scales.coco.schedule_factor: inf is not"),
        ("scales/coco/precision", "fp16", "precision: 'fp16' is not fp32 or bf16; did you mean"),
        ("scales/coco/config", {"SOLVER": {"BASE_LR": 1}}, "config.SOLVER: {'BASE_LR': 1} is not"),
        ("scales/coco/config", {"x.y": 1}, "scales.coco.config: its key 'x.y' is not a key such"),
        ("scales/coco/config", {"SOLVER.MAX_ITER": 1}, "SOLVER.MAX_ITER: is not set here: sched"),
        ("scales/smoke/warm_start/R101/deepen", "R5", "'R5' is no backbone above it in the same"),
        ("scales/smoke/warm_start/R50", DELETED, "warm_start.R101.deepen: 'R50' is no backbone"),
        ("scales/smoke/warm_start/R18", {"phases": [{}]}, "warm_start: 'R18' is unknown"),
        ("scales/smoke/warm_start/R50/phases", [], "warm_start.R50.phases: [] is not a non-empty"),
        ("scales/smoke/warm_start/R50/phases/0/SEED", 1, "R50.phases.0.SEED: is not set here"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(path, value, message):
    assert message in refusal(changed(path, value))


@pytest.mark.parametrize("content", [None, [], "scale", 3])
def test_a_file_without_parameters(content):
    assert "is not a mapping with scale, data_root" in refusal(content)


def test_several_faults_share_the_line_and_the_rest_are_counted():
    line = refusal({**PARAMS, "cam": 1, "overlap": 2, "ambiguity": 3, "seeds": 4, "runs": 5})
    assert line.count(" is not ") == 3 and line.endswith("; and 2 more")


MUTATIONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.dates()
    | st.sampled_from([10**400, -(10**400), b"x", "auto", "none", "-", "a\n.b", "R50", (), 1e308])
    | st.sampled_from([value for value in PARAMS.values()]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5) | st.integers() | st.none(), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def places(tree: object, above: tuple = ()) -> list[tuple]:
    """The paths of all that is in mappings and lists."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    inner = tree if isinstance(tree, dict | list) else ()
    return [
        path
        for key, value in (pairs if inner else ())
        for path in [(*above, key), *(places(value, (*above, key)) if nested(value) else ())]
    ]


def nested(value: object) -> bool:
    return isinstance(value, dict | list)


TREE = json.loads(json.dumps(PARAMS))  # nothing of it stands in two places
PLACES = places(TREE)
NAMES = st.text(max_size=8) | st.integers() | st.sampled_from(["prior", "kind", "[key]", "R50"])
HOW = st.sampled_from(["set", "delete", "rename", "add"])


def is_named(place: tuple, line: str) -> bool:
    """Whether the mapping that was changed is named, or what was in it where that is missed."""
    if "config" in place:  # of a list there the whole is shown
        place = place[: place.index("config") + 3]
    words = [" ".join(str(word).split()) for word in place]
    return ".".join(words[:-2]) in line or any(word in line for word in words[-2:])


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PLACES), HOW, MUTATIONS, NAMES)
def test_any_change_is_refused_by_name_or_can_be_planned(place, how, value, name):
    params = copy.deepcopy(TREE)
    here = params
    for key in place[:-1]:
        here = here[key]
    last = place[-1]
    if how == "set":
        here[last] = value
    elif how == "delete":
        del here[last]
    elif isinstance(here, list):
        here.append(value)
    elif how == "rename":
        here[name] = here.pop(last)
    else:
        here[name] = value
    try:
        validate(params)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
        assert is_named((*place, name), str(error))
        return
    shared_specifications(params)
    for run in all_runs(params):
        json.dumps(specification(run, params))


def test_the_documented_table_is_current(capsys):
    page.run(["--markdown"])
    assert capsys.readouterr().out == (ROOT / "docs" / "params.md").read_text()
    page.run([])
    assert "methods.NAME.mask_gradients" in capsys.readouterr().out


def test_every_parameter_is_in_the_table_and_explained():
    known = {row.path.replace(" (coco)", "").replace(" (miniature)", "") for row in rows()}
    assert all(row.meaning and row.values for row in rows())
    named = {"splits", "backbones", "methods", "schedules", "scales", "warm_start"}
    for place in PLACES:
        words, free = [], False
        for key in place:
            words.append("NAME" if free else str(key))
            free = key in named and not free and isinstance(key, str)
            if words[-1] in ("config", "phases", "runs", "seeds", "steps"):
                break  # whose values no row describes one by one
        assert ".".join(words) in known | {f"{one}.NAME" for one in known}, place


def test_what_only_the_planned_runs_need():
    edited = changed("backbones/mine", {"timm": "convnext_atto"})
    validate(edited)
    edited["runs"] = ["opmask-mine-voc"]
    assert "backbones.mine has neither `weights` nor a warm start at scale mini" in refusal(edited)
    edited["scale"] = "coco"
    validate(edited)
    validate({**PARAMS, "runs": ["opmask-lite0-voc"]})
    searching = changed("scales/miniature/held_out_images", 0)
    assert "opmask-R50-nonvoc-search: holds images out, and scales.mini" in refusal(searching)
    validate({**searching, "runs": ["opmask-R50-voc"]})


def test_choices_are_those_of_the_code():
    assert get_args(schema.Overlap.model_fields["reading"].annotation) == tuple(READINGS)
    assert schema_rules.SUPERVISED_SETS == splits.SUPERVISED_SETS
    depths = schema.Backbone.model_fields["resnet"].annotation
    assert get_args(depths) == tuple(_TORCHVISION_FILES)


README = "\n".join(p.read_text() for p in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))


def test_what_the_readme_sets_on_the_command_line_is_valid():
    from dvc.utils.hydra import apply_overrides

    commands = re.findall(r"dvc exp run ((?:.|\\\n)*?)(?:#|\n(?<!\\\n)|\n```)", README)
    found = [re.findall(r"-S '?([^\s']+)'?", command) for command in commands]
    assert sum(map(len, found)) > 12 and any(
        "~scales" in one for command in found for one in command
    )
    for overrides in found:
        path = Path("params.yaml")
        path.write_text((ROOT / "params.yaml").read_text())
        apply_overrides(path, overrides)
        load_params(path)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_readmes_own_data_are_valid():
    (text,) = re.findall(r"```yaml\n(scale: own.*?)```", README, re.DOTALL)
    params = PARAMS | yaml.safe_load(text)
    validate(params)


def write(text: str) -> Path:
    path = Path("params.yaml")
    path.write_text(text)
    return path


def test_yaml_is_read_as_dvc_reads_it():
    from dvc.utils.serialize import parse_yaml

    text = (ROOT / "params.yaml").read_text()
    text = text.replace("schedule_factor: 0.00002", "schedule_factor: 2e-05")
    params = load_params(write(text))
    assert params == PARAMS == parse_yaml(text, "params.yaml")
    with pytest.raises(UserError, match="not valid YAML: precision: twice"):
        load_params(write(text.replace("precision: fp32", "precision: fp32\n    precision: bf16")))


@pytest.mark.parametrize(
    "text", ["", "seeds: [0", "- 1", "a: &a [*a]", "\0", "? [a]\n: b", "!!python/object:x {}"]
)
def test_what_is_no_file_of_parameters(text):
    with pytest.raises(UserError, match="^params.yaml: "):
        load_params(write(text))


def test_the_data_root_may_be_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert data_root({"data_root": "~/pets"}) == Path("/home/someone/pets")
    assert data_root({"data_root": "pets"}) == Path.cwd() / "pets"
    with pytest.raises(UserError, match="data_root: ~nobody-of-this-name/pets"):
        data_root({"data_root": "~nobody-of-this-name/pets"})


RUN_ALL = """
import runpy, sys
for stage in sys.argv[1:]:
    sys.argv = [stage, *(["opmask-R50-voc-0"] if stage in ("ahead", "train", "evaluate") else [])]
    try:
        runpy.run_module(f"pipeline.{stage}", run_name="__main__")
    except SystemExit as ending:
        heavy = sorted({"torch", "detectron2"} & sys.modules.keys())
        print(stage, ending.code, *heavy)
"""


@pytest.mark.slow
def test_no_stage_begins_with_parameters_that_are_wrong():
    """Each says so before anything is written, and before torch is imported."""
    write((ROOT / "params.yaml").read_text().replace("prior: true", "piror: true", 1))
    every = {path.stem for path in (ROOT / "pipeline").glob("[a-z]*.py")}
    stages = sorted(every - {"params", "code", "reporting", "seeds"})
    command = [sys.executable, "-c", RUN_ALL, *stages]
    # runpy warns of modules that another has imported
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"{stage} 2" for stage in stages] and len(stages) > 20
    errors = done.stderr.splitlines()
    assert len(errors) == len(stages)
    assert all(e.startswith("error: params.yaml: methods.opmask.piror: unknown") for e in errors)
    assert [path.name for path in Path.cwd().iterdir()] == ["params.yaml"]
