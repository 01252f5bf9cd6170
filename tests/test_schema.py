"""Parameters: what they may say is accepted; all else is refused in one telling line."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import parse_yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from parameters import PARAMS, ROOT, TAKE_BACK, copy_params

from opmask.data import splits
from opmask.errors import UserError
from opmask.model.weights import _TORCHVISION_FILES
from pipeline import params as page
from study.analysis.overlap import READINGS
from study.spec.data_settings import check_settings
from study.spec.params import CHOICES, PAPER, SCALES, Loader, data_root, load_params, resolve
from study.spec.run import all_runs, shared_specifications, specification
from study.spec.schema import SCHEMA, rules
from study.spec.schema.table import rows

FILES = {
    str(path.relative_to(ROOT)): yaml.load(path.read_text(), Loader)
    for path in (ROOT / CHOICES, ROOT / PAPER, *sorted((ROOT / SCALES).glob("*.yaml")))
}
DELETED = object()


def file_of(key: str) -> str:
    return PAPER if key in SCHEMA[PAPER] else CHOICES


def changed(path: str, value: object = DELETED) -> dict:
    """The committed files with one parameter set, or deleted; `/` between the keys."""
    files = copy.deepcopy(FILES)
    *above, last = path.split("/")
    if above[:1] == ["scales"]:
        here = files["/".join(["scales", f"{above[1]}.yaml"])] if len(above) > 1 else files
        above, last = above[2:], f"scales/{last}.yaml" if len(above) == 1 else last
    else:
        here = files[file_of((above or [last])[0])]
    for key in above:
        here = here[int(key)] if isinstance(here, list) else here[key]
    last = int(last) if isinstance(here, list) else last
    if value is DELETED:
        del here[last]
    else:
        here[last] = value
    return files


def refusal(files: dict) -> str:
    with pytest.raises(UserError) as caught:
        resolve(files)
    (line,) = str(caught.value).splitlines()
    return line


def test_the_committed_files_are_valid_at_every_scale_and_schedule():
    assert type(PARAMS["scales"]["coco"]["schedule_factor"]) is float
    for scale in PARAMS["scales"]:
        for schedule in PARAMS["schedules"]:
            files = copy.deepcopy(FILES)
            files[CHOICES] |= {"scale": scale, "schedule": schedule}
            before = copy.deepcopy(files)
            assert resolve(files)["scale"] == scale
            assert files == before
    assert len((ROOT / CHOICES).read_text().splitlines()) < 60


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "methods/opmask",
            {"piror": True, "mask_head": "PriorMaskHead", "mask_convs": 7},
            "paper.yaml: methods.opmask.piror: unknown key; did you mean 'prior'? "
            "(there are mask_head, mask_convs, prior, mask_gradients, class_gradients, prior_kind, "
            "prior_kind_at_test, prior_min_max, prior_combined, mask_rois, components, roi_heads, "
            "config)",
        ),
        (
            "bootstrap",
            {"resample": 1000, "seed": 0},
            "paper.yaml: bootstrap.resample: unknown key; did you mean 'resamples'? "
            "(there are resamples, seed)",
        ),
        (
            "scales/coco/precision",
            DELETED,
            "scales/coco.yaml: precision: is missing; it is fp32 or bf16",
        ),
        (
            "scales/coco",
            {
                "precison" if k == "precision" else k: v
                for k, v in FILES["scales/coco.yaml"].items()
            },
            "scales/coco.yaml: precison: unknown key; did you mean 'precision'? (there are "
            "data, seeds, schedule_factor, held_out_images, mask_threshold, checkpoint_period, "
            "precision, config, initial_weights, warm_start_scenes, warm_start)",
        ),
    ],
)
def test_the_whole_line_of_a_misspelt_or_missing_key(path, value, message):
    assert refusal(changed(path, value)) == message


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("scale", "minature", "scale: 'minature' is unknown; did you mean 'miniature'?"),
        ("scale", "../x", "scale: '../x' is not a name without '.', '/'"),
        ("schedule", "9x", "schedule: '9x' is unknown; there are 1x, 130k"),
        ("data_root", "", "data_root: '' is not text, not empty"),
        ("data_root", "a\0b", "data_root: 'a\\x00b' is not text"),
        ("seeds", {}, "seeds: {} is not a list of values, each a whole number from 0"),
        ("scales/smoke/seeds", [], "seeds: [] is not a non-empty list of values, each a whole"),
        ("scales/smoke/seeds", [1, 1], "scales/smoke.yaml: seeds: named more than once: 1"),
        ("seeds", ["a"], "seeds.0: 'a' is not a whole number from 0 to"),
        ("seeds", [-1], "seeds.0: -1 is not a whole number"),
        ("seeds", [0, 0.5], "seeds.1: 0.5 is not a whole number"),
        ("seeds", [True], "seeds.0: true is not a whole number"),
        ("seeds", [0, 1, 0], "seeds: named more than once: 0"),
        ("seed", [0], "seed: unknown key; did you mean 'seeds'?"),
        ("runs", {"a": 1}, "params.yaml: runs: {'a': 1} is not a list of values, each text"),
        ("runs", [3], "runs.0: 3 is not text"),
        ("suite", "pape", "params.yaml: suite: 'pape' is unknown; did you mean 'paper'? (there"),
        ("suites/mine", [], "suites.mine: [] is not a mapping with repeated, once"),
        ("suites/mine", {}, "paper.yaml: suites.mine: has no run"),
        ("suites/mine", {"once": ["headline"]}, "suites.mine.once: 'headline' is not METHOD-BACKB"),
        (
            "suites/mine",
            {"repeated": ["opmsk-R50-voc"]},
            "mine.repeated: opmsk-R50-voc: method",
        ),
        (
            "suites/mine",
            {"once": ["opmask-R50-voc"], "repeated": ["opmask-R50-voc"]},
            "suites.mine: named more than once: opmask-R50-voc",
        ),
        ("methods/opmask/prior_kind", "cams", "prior_kind: 'cams' is not cam, gaussian, cons"),
        ("methods/opmask/prior_kind", "constant", "constant needs prior_min_max: false, which"),
        ("methods/maskrcnn/prior_kind", "cam", "maskrcnn.prior_kind: 'cam' needs prior: true"),
        ("methods/maskrcnn/class_gradients", True, "class_gradients: true needs prior: true"),
        ("methods/fasterrcnn/mask_rois", "gt", "mask_rois: gt needs a mask_head"),
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
        (
            "scales/coco/data/kind",
            "voc",
            "coco.yaml: data.kind: 'voc' is not miniature or coco",
        ),
        (
            "scales/coco/data/kind",
            DELETED,
            "coco.yaml: data.kind: is missing; it is miniature",
        ),
        (
            "scales/coco/data/seed",
            0,
            "coco.yaml: data.seed: unknown key; there are kind, train",
        ),
        ("scales/coco/data/check_images", "all", "check_images: 'all' is not header, exist or d"),
        (
            "scales/coco/data/val_images",
            DELETED,
            "coco.yaml: data.val_images: is missing; it is",
        ),
        (
            "scales/smoke/data/image_size",
            63,
            "data.image_size: 63 is not a whole number, 64 or more",
        ),
        ("scales/smoke/held_out_images", 48, "held_out_images: 48 is not below data.train_im"),
        ("scales/coco/schedule_factor", "1e-3", "schedule_factor: '1e-3' is not a number, above"),
        (
            "scales/coco/schedule_factor",
            float("inf"),
            "scales/coco.yaml: schedule_factor: inf is not",
        ),
        ("scales/coco/precision", "fp16", "precision: 'fp16' is not fp32 or bf16; did you mean"),
        ("scales/coco/config", {"SOLVER": {"x": 1}}, "config.SOLVER: its key 'x' is not a key su"),
        ("scales/coco/config", {"SOLVER": {"MAX_ITER": 1}}, "SOLVER.MAX_ITER: is not set here"),
        ("scales/coco/config", {"A.B": 1, "A": {"B": 2}}, "config.A.B: is set twice"),
        (
            "scales/coco/config",
            {"x.y": 1},
            "scales/coco.yaml: config: its key 'x.y' is not a key such",
        ),
        ("scales/coco/config", {"SOLVER.MAX_ITER": 1}, "SOLVER.MAX_ITER: is not set here: sched"),
        ("scales/smoke/warm_start/R101/deepen", "R5", "'R5' is no backbone above it in the same"),
        ("scales/smoke/warm_start/R50", DELETED, "warm_start.R101.deepen: 'R50' is no backbone"),
        ("scales/smoke/warm_start/R18", {"phases": [{}]}, "warm_start: 'R18' is unknown"),
        ("scales/smoke/warm_start/R50/phases", [], "warm_start.R50.phases: is empty; only shipped"),
        ("scales/smoke/warm_start/R50/phases/0/SEED", 1, "R50.phases.0.SEED: is not set here"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(path, value, message):
    assert message in refusal(changed(path, value))


@pytest.mark.parametrize("content", [None, [], "scale", 3])
def test_a_file_without_parameters(content):
    assert "params.yaml: the file: " in refusal(FILES | {CHOICES: content})
    assert "is not a mapping with methods, backbones" in refusal(FILES | {PAPER: content})
    assert "is not a mapping with data, seeds" in refusal(FILES | {"scales/own.yaml": content})


def test_several_faults_share_the_line_and_the_rest_are_counted():
    faults = {"cam": 1, "overlap": 2, "ambiguity": 3, "methods": 4}
    line = refusal(FILES | {PAPER: FILES[PAPER] | faults, "scales/own.yaml": None})
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


TREE = json.loads(json.dumps(FILES))
PLACES = places(TREE)
NAMES = st.text(max_size=8) | st.integers() | st.sampled_from(["prior", "kind", "[key]", "R50"])
HOW = st.sampled_from(["set", "delete", "rename", "add"])


def is_named(place: tuple, line: str) -> bool:
    """Whether the mapping that was changed is named, or what was in it where that is missed."""
    if "config" in place:  # of a list there the whole is shown; twice the same is said of it
        place = place[: place.index("config") + 1]
    words = [" ".join(str(word).split()) for word in place[1:]]
    return ".".join(words[:-2]) in line or any(word in line for word in words[-2:])


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PLACES), HOW, MUTATIONS, NAMES)
def test_any_change_is_refused_by_name_or_can_be_planned(place, how, value, name):
    # Files are there, and have names.
    assume(len(place) > 1 or (isinstance(name, str) and how != "delete"))
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
        params = resolve(params)
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
    every = [row for found in rows().values() for row in found]
    known = {re.sub(r" \(\w+\)", "", row.path) for row in every}
    assert all(row.meaning and row.values for row in every)
    named = {"splits", "backbones", "methods", "schedules", "suites", "warm_start"}
    for file, *place in (place for place in PLACES if len(place) > 1):
        words, free = [], False
        for key in place:
            words.append("NAME" if free else str(key))
            free = key in named and not free and isinstance(key, str)
            if words[-1] in ("config", "phases", "runs", "seeds", "steps") or place[0] == "suites":
                break  # whose values no row describes one by one
        assert ".".join(words) in known | {f"{one}.NAME" for one in known}, (file, place)


def choosing(files: dict = FILES, **choices: object) -> dict:
    return files | {CHOICES: files[CHOICES] | choices}


def test_what_only_the_planned_runs_need():
    edited = changed("backbones/mine", {"timm": "convnext_atto"})
    resolve(edited)
    edited = choosing(edited, runs="opmask-mine-voc")
    assert "backbones.mine has neither `weights` nor a warm start in scales/mini" in refusal(edited)
    resolve(choosing(edited, scale="coco"))
    resolve(choosing(runs="opmask-lite0-voc"))
    searching = changed("scales/miniature/held_out_images", 0)
    assert "opmask-R50-nonvoc-search: holds images out, and held_out_images in scales/mini" in (
        refusal(searching)
    )
    resolve(choosing(searching, runs=["opmask-R50-voc"]))
    resolve(choosing(searching, suite="table1"))


def test_the_suite_says_what_is_trained_unless_runs_are_named():
    paper, table1 = (resolve(choosing(suite=name))["runs"] for name in ("paper", "table1"))
    assert len(paper) == 24 and len(table1) == 10 and set(table1) < set(paper)
    assert resolve(choosing(suite="headline"))["runs"] == table1[:4]
    assert resolve(choosing(runs=["opmask-R50-all"]))["runs"] == ["opmask-R50-all"]


@pytest.mark.parametrize(
    ("choice", "seeds", "trainings"),
    [
        ({"suite": "paper"}, {"maskrcnn7-R50-voc": [0, 1, 2], "opmask-R101-voc": [0]}, 36),
        ({"suite": "headline"}, {"maskrcnn-R50-voc": [0]}, 4),
        ({"suite": "paper", "scale": "coco"}, {"maskrcnn7-R50-voc": [0]}, 24),
        ({"runs": ["opmask-R50-voc"]}, {"opmask-R50-voc": [0]}, 1),
        ({"suite": "paper", "seeds": [4, 7]}, {"opmask-R101-voc": [4, 7]}, 48),
    ],
)
def test_seeds_are_the_suites_and_the_scales_unless_they_are_named(choice, seeds, trainings):
    runs = all_runs(resolve(choosing(**choice)))
    assert len(runs) == trainings
    for name, wanted in seeds.items():
        assert [run.seed for run in runs if run.name == name] == wanted


def test_a_single_run_or_seed_needs_no_list_and_a_schedule_may_be_a_number():
    files = changed("schedules/90", {"max_iter": 90, "steps": [60]})
    files[PAPER]["schedules"][90] = files[PAPER]["schedules"].pop("90")
    params = resolve(choosing(files, runs="opmask-R50-voc", seeds=3, schedule=90))
    assert params["runs"] == ["opmask-R50-voc"] and params["seeds"] == [3]
    (run,) = all_runs(params | {"scale": "coco"})
    assert specification(run, params | {"scale": "coco"})["max_iter"] == 90
    files[PAPER]["schedules"]["90"] = {"max_iter": 91, "steps": [60]}
    assert "paper.yaml: schedules.90: is set twice" in refusal(files)


def test_settings_are_the_same_nested_and_dotted():
    nested = changed("scales/coco/config", {"MODEL": {"FPN": {"NORM": "BN"}, "RPN": {}}})
    dotted = changed("scales/coco/config", {"MODEL.FPN.NORM": "BN"})
    mixed = changed("scales/coco/config", {"MODEL": {"FPN.NORM": "BN"}})
    wanted = {"MODEL.FPN.NORM": "BN"}
    for files in (nested, dotted, mixed):
        assert resolve(files)["scales"]["coco"]["config"] == wanted
    of_method = changed("methods/opmask/config", {"MODEL": {"FPN": {"NORM": "BN"}}})
    assert resolve(of_method)["methods"]["opmask"]["config"] == wanted


def test_only_warm_starts_that_runs_need_are_left():
    def warm_starts(runs: list[str]) -> list[str]:
        params = resolve(choosing(scale="coco_small", runs=runs))
        assert list(shared_specifications(params)["pretrain"]["backbones"]) == [
            *params["scales"]["coco_small"]["warm_start"]
        ]
        return list(params["scales"]["coco_small"]["warm_start"])

    assert warm_starts(["opmask-lite0-voc"]) == ["lite0"]
    assert warm_starts(["opmask-R101-voc"]) == ["R50", "R101"]  # which R101 deepens
    assert warm_starts(["opmask-R50-voc", "opmask-lite0-voc"]) == ["lite0", "R50"]


def test_a_scale_of_ones_own_data_asks_for_their_folder():
    params = resolve(choosing(scale="coco"))
    with pytest.raises(UserError) as caught:
        check_settings(params)
    assert str(caught.value) == (
        "params.yaml: data_root: is missing; it is for scale coco the folder that has "
        "annotations/, train2017/, val2017/, e.g. -S data_root=/path/to/coco"
    )
    left = resolve(choosing(data_root="/photos"))  # of an earlier experiment
    assert left["data_root"] == resolve(FILES)["data_root"] == "opmask/miniature"


def test_choices_are_those_of_the_code():
    assert tuple(SCHEMA[PAPER]["overlap"]["keys"]["reading"]["choices"]) == tuple(READINGS)
    assert rules.SUPERVISED_SETS == splits.SUPERVISED_SETS
    depths = SCHEMA[PAPER]["backbones"]["each"]["keys"]["resnet"]["choices"]
    assert tuple(depths) == tuple(_TORCHVISION_FILES)


README = "\n".join(p.read_text() for p in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
COMMANDS = [
    re.findall(r"-S '?([^\s']+)'?", command)
    for command in re.findall(r"dvc exp run ((?:.|\\\n)*?)(?:#|\n(?<!\\\n)|\n```|`)", README)
]


def experiment(settings: list[str]) -> dict:
    """What `dvc exp run -S …` plans, by DVC's own code, in files that it leaves changed."""
    for path, overrides in to_path_overrides(settings).items():
        apply_overrides(path, overrides)
        content = yaml.load(Path(path).read_text(), Loader)
        for override in overrides:
            key, _, value = override.lstrip("+").partition("=")
            assert there(content, key) == yaml.load(value, Loader), override
    params = load_params()
    chosen = [params["suites"][one[6:]] for one in settings if one.startswith("suite=")]
    assert chosen in ([], [params["runs"]])  # not those of an earlier command
    planned = {run.key: specification(run, params) for run in all_runs(params)}
    return {**planned, **shared_specifications(params)}


def there(content: dict, path: str) -> object:
    for key in path.split("."):
        content = content[int(key)] if isinstance(content, list) else content[key]
    return content


@pytest.mark.slow
def test_every_documented_command_can_be_repeated_in_any_order():
    """Each gives the same twice, after all others in both orders, and after going back."""
    assert len(COMMANDS) > 12 and TAKE_BACK in README
    copy_params()
    for command in [*COMMANDS, *reversed(COMMANDS)]:
        assert experiment(command) == experiment(command)
    copy_params()  # what TAKE_BACK does
    assert experiment([]) == experiment(["scale=miniature"])


def test_setting_nothing_leaves_the_files_as_they_are():
    """So that what DVC rewrites differs in the value that was set alone."""
    copy_params()
    for name in FILES:
        apply_overrides(name, [])
        assert Path(name).read_text() == (ROOT / name).read_text(), name


def test_lists_that_come_and_go_leave_a_file_that_can_be_read():
    """A remark behind the key of a list, which is then emptied, makes DVC write what is no YAML."""
    copy_params()
    runs, seeds, splits = "runs=[opmask-R50-voc]", "seeds=[0,1]", "++splits.mine=[cat,dog]"
    for setting in (runs, "runs=[]", splits, splits, "seeds=0", seeds, runs, "runs=[]", "seeds=3"):
        experiment([setting])
    suite = "suites.paper.once=[opmask-R50-all]"
    mine = "++suites.mine={once: [opmask-R50-all]}"
    for setting in (suite, "schedules.search.steps=[]", suite, mine, "methods.opmask.prior=true"):
        experiment([f"{PAPER}:{setting}"])
    for name in (CHOICES, PAPER):  # and remarks stay
        assert Path(name).read_text().count("#") == (ROOT / name).read_text().count("#")


@pytest.mark.parametrize("scale", list(PARAMS["scales"]))
def test_what_is_set_on_the_command_line_takes_effect_at_every_scale(scale):
    copy_params()
    runs = [f"scale={scale}", "runs=opmask-R50-voc", "seeds=0"]
    before = experiment(runs)["opmask-R50-voc-0"]
    others = {name: one for name, one in load_params()["scales"].items() if name != scale}
    one = f"scales/{scale}.yaml:"
    settings = [
        "schedule_factor=0.0002", "precision=fp32", "checkpoint_period=7",
        "++config.SOLVER.BASE_LR=0.02", "++config.MODEL.FPN.NORM=GN",
    ]  # fmt: skip
    after = experiment([*runs, *(one + setting for setting in settings)])["opmask-R50-voc-0"]
    assert after["max_iter"] == 26 != before["max_iter"]
    assert after["precision"] == "fp32" and after["checkpoint_period"] == 7
    changes = {"SOLVER.BASE_LR": 0.02, "MODEL.FPN.NORM": "GN"}
    assert after["config"] == before["config"] | changes
    assert load_params()["scales"].items() >= others.items()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_readmes_own_data_are_valid():
    (text,) = re.findall(r"```yaml\n(scale: own.*?)```", README, re.DOTALL)
    resolve(FILES | {CHOICES: FILES[CHOICES] | yaml.safe_load(text)})


def write(text: str, name: str = CHOICES) -> Path:
    copy_params()
    Path(name).write_text(text)
    return Path(CHOICES)


def test_yaml_is_read_as_dvc_reads_it():
    name = "scales/smoke.yaml"
    text = (ROOT / name).read_text().replace("schedule_factor: 2e-05", "schedule_factor: 0.00002")
    assert load_params(write(text, name)) == load_params(ROOT / CHOICES)
    for one, content in FILES.items():
        assert content == parse_yaml((ROOT / one).read_text(), one)
    twice = text.replace("precision: bf16", "precision: fp32\nprecision: bf16")
    with pytest.raises(UserError, match="^scales/smoke.yaml: is not valid YAML: precision: twice"):
        load_params(write(twice, name))


@pytest.mark.parametrize(
    "text", ["", "seeds: [0", "- 1", "a: &a [*a]", "\0", "? [a]\n: b", "!!python/object:x {}"]
)
@pytest.mark.parametrize("name", [CHOICES, PAPER, "scales/own.yaml"])
def test_what_is_no_file_of_parameters(text, name):
    with pytest.raises(UserError, match=f"^{name}: "):
        load_params(write(text, name))


def test_a_mapping_in_itself_is_refused():
    path = write((ROOT / "scales/own.yaml").read_text() + "\n", "scales/own.yaml")
    text = Path("scales/own.yaml").read_text().replace("config:\n", "config: &it\n  A: *it\n", 1)
    Path("scales/own.yaml").write_text(text)
    with pytest.raises(UserError, match="^scales/own.yaml: "):
        load_params(path)


def test_a_missing_file_is_named():
    copy_params()
    Path(PAPER).unlink()
    with pytest.raises(UserError, match="^paper.yaml: cannot be read .*project's root"):
        load_params()


def test_the_data_root_may_be_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert data_root({"data_root": "~/pets"}) == Path("/home/someone/pets")
    assert data_root({"data_root": "pets"}) == Path.cwd() / "pets"
    with pytest.raises(UserError, match="data_root: ~nobody-of-this-name/pets"):
        data_root({"data_root": "~nobody-of-this-name/pets"})


RUN_ALL = """
import runpy, sys
for stage in sys.argv[1:]:
    sys.argv = [stage, *(["opmask-R50-voc-0"] if stage == "train" else [])]
    try:
        runpy.run_module(f"pipeline.{stage}", run_name="__main__")
    except SystemExit as ending:
        heavy = sorted({"torch", "detectron2"} & sys.modules.keys())
        print(stage, ending.code, *heavy)
"""


@pytest.mark.slow
def test_no_stage_begins_with_parameters_that_are_wrong():
    """Each says so before anything is written, and before torch is imported."""
    write((ROOT / PAPER).read_text().replace("prior: true", "piror: true", 1), PAPER)
    every = {path.stem for path in (ROOT / "pipeline").glob("[a-z]*.py")}
    stages = sorted(every - {"params", "reporting", "seeds"})
    command = [sys.executable, "-c", RUN_ALL, *stages]
    # runpy warns of modules that another has imported
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"{stage} 2" for stage in stages] and len(stages) > 20
    errors = done.stderr.splitlines()
    assert len(errors) == len(stages)
    assert all(e.startswith("error: paper.yaml: methods.opmask.piror: unknown") for e in errors)
    assert {path.name for path in Path.cwd().iterdir()} == {CHOICES, PAPER, SCALES}
