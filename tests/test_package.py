"""What `pip install` makes of the library."""

import importlib.metadata
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN = "from opmask.predict import run; run()"
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built by the project's own backend, from a copy: it leaves files beside pyproject.toml."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        copy(ROOT / name, source)
    for package in ("opmask", "study", "pipeline"):
        copytree(ROOT / package, source / package, ignore=ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-c", BUILD, out], cwd=source, check=True, capture_output=True)
    (path,) = out.glob("opmask-*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_is_the_library_with_its_data_and_nothing_else(wheel):
    there = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = (path for path in (ROOT / "opmask").rglob("*") if path.is_file())
    wanted = {p.relative_to(ROOT).as_posix() for p in files if "__pycache__" not in p.parts}
    assert there == wanted
    assert "opmask/miniature/annotations/classes.json" in there


@pytest.mark.parametrize("name", ["opmask-check", "opmask-predict"])
def test_commands_run(wheel, name, capsys, monkeypatch):
    (path,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    points = wheel.read(path).decode().splitlines()
    values = dict(line.split(" = ") for line in points if " = " in line)
    command = importlib.metadata.EntryPoint(name, values[name], "console_scripts").load()
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ending:
        command()
    assert ending.value.code == 0
    assert "exit status:" in capsys.readouterr().out


@pytest.mark.slow
def test_prediction_names_detectron2_where_it_is_not_installed(tmp_path):
    (tmp_path / "a.jpg").touch()
    script = f"import sys; sys.modules['detectron2'] = None; {RUN}"
    command = [sys.executable, "-c", script, "a.jpg", "--run", "run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: detectron2 is not installed")


def test_neither_build_of_detectron2_is_forced_on_a_user():
    assert not any("detectron2" in one for one in PROJECT["project"]["dependencies"])
    assert any(
        "detectron2" in one for one in PROJECT["project"]["optional-dependencies"]["detectron2"]
    )


def test_all_that_the_library_needs_is_pinned_for_the_reproduction():
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    pinned = {one.split("==")[0] for one in [*groups["reproduction"], *groups["timm"]]}
    loose = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    assert {one.split(">=")[0] for one in loose} <= pinned
    assert all("==" in one for one in groups["reproduction"])
