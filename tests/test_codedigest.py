"""What code a result rests on: found by itself, whole, and no wider than it need be."""

import ast
import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from parameters import copy_params

from opmask.errors import UserError
from opmask.training import files
from pipeline import code as command
from pipeline import stage
from study.spec import code, codedigest, paths
from study.spec.codedigest import Library, Project, differences

ROOT = Path(__file__).parents[1]
STAGES = [s for s in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"] if s != "code"]

SMALL = {
    "app/__init__.py": "",
    "app/main.py": """
import app.text as text
from .sub import part
def later():
    from app import lazy
    import torch.nn
""",
    "app/text.py": "import typing\nif typing.TYPE_CHECKING:\n    import app.types_only\n",
    "app/types_only.py": "",
    "app/lazy.py": "import runpy\ndef go(name='app.by_name'):\n    runpy.run_module(name)\n",
    "app/by_name.py": "HOOK = 'app.other:function'\n",
    "app/hooked.py": "import app.exempt\n",
    "app/exempt.py": "import app.behind_exempt\n",
    "app/behind_exempt.py": "",
    "app/other.py": "",
    "app/sub/__init__.py": "",
    "app/sub/part.py": "from ..deep.er import value\n",
    "app/sub/table.csv": "1",
    "app/sub/more/table.csv": "2",
    "app/deep/__init__.py": "",
    "app/deep/er.py": "value = 1\n",
    "app/other_package/__init__.py": "",
    "app/other_package/data.csv": "3",
}


@pytest.fixture
def small(tmp_path):
    """`small(**changed)`: digests of app.main, with files changed as if just edited."""
    for name, text in SMALL.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def digests(changed=None, module="app.main"):
        for name, text in (changed or {}).items():
            (tmp_path / name).write_text(text)
        return Project(
            tmp_path,
            ("app",),
            {
                "torch": Library(("nothing", "torch"), brings=("numpy",)),
                "numpy": Library(("numpy",)),
            },
            hooks={"torch": ("app.hooked",)},
            exempt={"app.exempt": "for this test"},
        ).digests(module)

    return digests


def test_all_that_may_be_imported_counts_and_nothing_else(small):
    found = small()
    modules = ["main", "text", "lazy", "by_name", "hooked", "sub", "sub.part", "deep", "deep.er"]
    assert list(found["modules"]) == sorted(["app", *(f"app.{name}" for name in modules)])
    assert list(found["data"]) == ["app/sub/more/table.csv", "app/sub/table.csv"]
    assert list(found["libraries"]) == ["numpy", "torch"]
    assert small(module="app.other") == {
        "modules": {name: found["modules"].get(name, small(module="app.other")["modules"][name])
                    for name in ("app", "app.other")},
        "data": {}, "libraries": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "text", "changed"),
    [
        ("app/deep/er.py", '"""Of late."""\n# one\nvalue = (1)\n\n\n"a loose string"\n', []),
        ("app/deep/er.py", "value = 2\n", ["app.deep.er"]),
        ("app/deep/er.py", "value = 1.0\n", ["app.deep.er"]),
        ("app/deep/er.py", "value = True\n", ["app.deep.er"]),
        ("app/deep/er.py", "value = '1'\n", ["app.deep.er"]),
        ("app/deep/er.py", "value = None\n", ["app.deep.er"]),
        ("app/deep/er.py", "value: int = 1\n", ["app.deep.er"]),
        ("app/deep/er.py", "import app.other\nvalue = 1\n", ["app.deep.er", "app.other"]),
        ("app/hooked.py", "", ["app.hooked"]),
        ("app/sub/table.csv", "1\n", ["app/sub/table.csv"]),
        ("app/sub/new.txt", "", ["app/sub/new.txt"]),
        ("app/exempt.py", "x = 1", []),
        ("app/types_only.py", "x = 1", []),
        ("app/other_package/data.csv", "4", []),
    ],
)
def test_what_an_edit_changes(small, file, text, changed):
    before = small()
    assert differences(before, small({file: text})) == changed


def test_a_string_that_is_used_is_no_docstring(small):
    before = small({"app/text.py": 'def f():\n    """Doc."""\n    return "x"\n'})
    assert differences(before, small({"app/text.py": 'def f():\n    return "x"\n'})) == []
    assert differences(before, small({"app/text.py": 'def f():\n    return "y"\n'})) == ["app.text"]


def test_versions_count_without_their_build(small, monkeypatch):
    before = small()
    monkeypatch.setattr(codedigest, "version", lambda name: "9.9+cu128")
    assert differences(before, small()) == ["numpy", "torch"]
    assert small()["libraries"] == {"numpy": "9.9", "torch": "9.9"}
    monkeypatch.undo()
    assert small(module="app.main")["libraries"]["torch"] not in ("not installed", "9.9")


def test_what_is_no_module_is_an_error(small):
    with pytest.raises(KeyError):
        small(module="app.nothing")
    with pytest.raises(SyntaxError, match="invalid syntax"):
        small({"app/deep/er.py": "value ="})


def other_pythons():
    return [name for v in (11, 12, 13) if (name := shutil.which(f"python3.{v}"))]


@pytest.mark.slow
@pytest.mark.skipif(not other_pythons(), reason="no other Python at hand")
def test_another_python_finds_the_same():
    """Machines that share results need not share a version of Python."""
    program = (
        "import sys, json; sys.path.insert(0, 'study/spec'); import codedigest;"
        "from pathlib import Path;"
        "p = codedigest.Project(Path('.'), ('opmask', 'study', 'pipeline', 'tests'));"
        "print(json.dumps([p.digests(m) for m in sorted(p.files)]))"
    )
    own = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT)
    for python in other_pythons():
        done = subprocess.run([python, "-c", program], cwd=ROOT, capture_output=True)
        assert done.returncode or done.stdout == own  # one that cannot start proves nothing


# This project.


def digests_of(root: Path) -> dict[str, codedigest.Digests]:
    return stages_of(replace(code.PROJECT, root=root))


def stages_of(project: codedigest.Project) -> dict[str, codedigest.Digests]:
    """As stage `code` records them: with components, where these may be imported."""
    found = {name: project.digests(f"pipeline.{name}") for name in STAGES}
    named = [module for module in project.files if module.startswith(code.COMPONENTS)]
    return {
        name: project.digests(f"pipeline.{name}", *named)
        if code.IMPORTER in one["modules"]
        else one
        for name, one in found.items()
    }


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    root = tmp_path_factory.mktemp("copy")
    for package in code.PROJECT.packages:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, root / package, ignore=ignored)
    return root


@pytest.fixture(scope="module")
def before() -> dict[str, codedigest.Digests]:
    return stages_of(code.PROJECT)


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def mutations() -> list[tuple[str, int]]:
    """(module, number of a function in it): one of each package, and others at random."""
    found = {}
    for name, path in sorted(code.PROJECT.files.items()):
        count = len(functions(ast.parse(path.read_text())))
        found[name] = [(name, number) for number in range(count)]
    rng = random.Random(14)
    chosen = []
    for package in sorted({name.rpartition(".")[0] for name in found}):
        inside = [
            one for name in found if name.rpartition(".")[0] == package for one in found[name]
        ]
        chosen += rng.sample(inside, 1) if inside else []
    rest = [one for name in found for one in found[name] if one not in chosen]
    return chosen + rng.sample(rest, 10)


@pytest.mark.slow
@pytest.mark.parametrize(("module", "number"), mutations())
def test_the_stages_that_hold_a_function_and_no_others_are_out_of_date(
    copy, before, module, number
):
    path = copy / code.PROJECT.files[module].relative_to(ROOT)
    source = path.read_text()
    try:
        tree = ast.parse(source)
        function = functions(tree)[number]
        function.body.insert(0, ast.parse('"""Another docstring."""').body[0])
        path.write_text(f"# A comment.\n\n{ast.unparse(tree)}\n")
        assert digests_of(copy) == before
        function.body[:] = [*ast.parse("raise ValueError(len('mutated'))").body, *function.body]
        path.write_text(ast.unparse(ast.fix_missing_locations(tree)))
        after = digests_of(copy)
    finally:
        path.write_text(source)
    holding = {name for name in STAGES if module in before[name]["modules"]}
    assert {name for name in STAGES if before[name] != after[name]} == holding
    assert holding or module in code.PROJECT.exempt or not_of_a_stage(module)


def not_of_a_stage(module: str) -> bool:
    """What people call beside the DAG, and what only that uses."""
    beside = ["opmask.predict", "opmask.data.__main__", "pipeline.status", "pipeline.outline",
              "pipeline.code", "pipeline.params", "pipeline.seeds", "pipeline.pilot",
              "pipeline.so_far", "pipeline.ship", "pipeline.held_out"]  # fmt: skip
    return any(module in code.PROJECT.digests(name)["modules"] for name in beside)


def test_closures_are_no_wider_than_they_need_be():
    holds = {name: set(code.PROJECT.digests(f"pipeline.{name}")["modules"]) for name in STAGES}

    def stages(module):
        return {name for name in STAGES if module in holds[name]}

    assert stages("study.figures.figure6") == {"figure6"}
    assert stages("study.figures.figure3") == {"regression"}
    assert "opmask.data.splits" not in holds["pretrain"]
    assert not {"opmask.evaluation.inference", "opmask.evaluation.coco_ap"} & holds["train"]
    assert not {"opmask.training.trainer", "opmask.training.hooks"} & holds["evaluate"]
    assert {"opmask.model.roi_heads", "opmask.model.compat", "opmask.data.splits"} <= holds[
        "evaluate"
    ]
    assert stages("opmask.miniature.build") == {"data", "pretrain"}
    heavy = {
        name for name in STAGES if "torch" in code.PROJECT.digests(f"pipeline.{name}")["libraries"]
    }
    with_models = {"plan", "pretrain", "train", "evaluate", "cam", "search", "gallery", "rivals"}
    assert heavy == with_models


def test_every_stage_depends_on_its_own_record_and_lists_no_code():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert stages["code"]["always_changed"] and stages["code"]["outs"] == ["runs/code"]
    for name in STAGES:
        deps = stages[name]["deps"]
        assert [dep for dep in deps if dep.startswith("runs/code")] == [f"runs/code/{name}.json"]
        assert not [dep for dep in deps if dep.startswith(("opmask/", "study/", "pipeline/"))]
        assert stages[name]["cmd"].split()[2] == f"pipeline.{name}"


def test_what_is_exempt_brings_nothing_along_that_counts():
    """It would run without being on the record."""
    all_but_lists = replace(code.PROJECT, exempt={"study.spec.code": "names modules as text"})
    for name in STAGES:
        recorded = code.PROJECT.digests(f"pipeline.{name}")["modules"]
        ran = all_but_lists.digests(f"pipeline.{name}")["modules"]
        assert ran.keys() - recorded.keys() <= code.PROJECT.exempt.keys(), name


def test_paths_are_those_of_dvc_yaml():
    """Why `paths` may be exempt: a path that moves in one of the two alone is no output."""
    text = (ROOT / "dvc.yaml").read_text().replace("${scale}", "any")
    own = {
        path.as_posix()
        for path in vars(paths.Paths("any")).values()
        if isinstance(path, Path) and path.parts[0] in ("data", "runs", "reports")
    }
    # The library's, which not all stages need import.
    shared = ("CONFIG", "SNAPSHOTS", "HELD_OUT")
    assert [paths.WEIGHTS, *(getattr(paths, name) for name in shared)] == [
        files.FINAL, *(getattr(files, name) for name in shared)
    ]  # fmt: skip
    named = {one for stage in yaml.safe_load(text)["stages"].values() for one in files_of(stage)}
    assert not [one for one in named if not any(f"{one}/".startswith(f"{p}/") for p in own)]
    apart = {"runs/any", "reports", "reports/any"}  # which hold the others
    assert not [p for p in own - apart if not any(f"{one}/".startswith(f"{p}/") for one in named)]


def files_of(stage: dict) -> list[str]:
    listed = [one for kind in ("deps", "outs", "metrics", "plots") for one in stage.get(kind, [])]
    names = [next(iter(one)) if isinstance(one, dict) else one for one in listed]
    others = (paths.CODE.as_posix(), "paper.yaml", "scales/")  # records, and parameters
    return [name for name in names if not name.startswith(others)]


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A folder in which stage `code` has run."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    copy_params(tmp_path)
    command.run([])
    return tmp_path


def test_stage_code_writes_one_record_a_stage(recorded):
    assert {path.stem for path in paths.CODE.iterdir()} == set(STAGES)
    found = json.loads(code.record_file("train").read_text())
    own = code.PROJECT.digests("pipeline.train")
    assert {name: found["modules"].get(name) for name in own["modules"]} == own["modules"]
    # and what parameters may have it import
    others = found["modules"].keys() - own["modules"].keys()
    assert "opmask.rivals.maskx" in others
    assert all(name.startswith("opmask.rivals") for name in others)
    assert {"torch", "detectron2"} < found["libraries"].keys()


def test_a_stage_refuses_to_run_as_other_code_than_is_on_record(recorded, capsys):
    ran = []

    def run(argv):
        ran.append(argv)

    run.__module__ = "pipeline.train"
    import pipeline.train  # noqa: F401  whose name the stage is known by

    command_line = stage(run)
    command_line(["x"])
    assert ran == [["x"]]
    path = code.record_file("train")
    found = json.loads(path.read_text())
    found["modules"]["opmask.model.roi_heads"] = "as it was"
    path.write_text(json.dumps(found))
    with pytest.raises(SystemExit) as stop:
        command_line(["x"])
    error = capsys.readouterr().err
    assert (
        stop.value.code == 2 and "opmask.model.roi_heads: changed since stage `code` ran" in error
    )
    assert "dvc repro code" in error and len(error.splitlines()) == 1 and len(ran) == 1
    with pytest.raises(UserError):
        code.require_recorded("train")
    code.require_recorded("evaluate")


def test_what_has_changed_is_said_by_stage(recorded, capsys):
    command.run(["--changed"])
    assert capsys.readouterr().out == "nothing has changed\n"
    path = code.record_file("figure6")
    path.write_text(path.read_text().replace('"pipeline.figure6": "', '"pipeline.figure6": "0'))
    before = path.read_text()
    code.record_file("report").unlink()
    command.run(["--changed"])
    assert capsys.readouterr().out == "figure6: pipeline.figure6\nreport: has no record yet\n"
    assert path.read_text() == before
