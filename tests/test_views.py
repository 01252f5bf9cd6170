"""What DVC shows of the project: its DAG, table of experiments, metrics and plots."""

import csv
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import networkx
import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PLOTS = [
    "Training loss of all runs",
    "Gain by pair of runs",
    "Figure 3, gain against overlap",
    "Figure 6, AP against classes with masks",
]
CURVES = """run,method,backbone,supervised,schedule,seed,iteration,total_loss
opmask-R50-voc-0,opmask,R50,voc,130k,0,10,2.5
opmask-R50-voc-0,opmask,R50,voc,130k,0,20,1.5
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A repository with what DVC reads, the committed reports, and an experiment `longer`."""
    root = tmp_path_factory.mktemp("views")
    for name in ("dvc.yaml", "params.yaml", "paper.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "scales", root / "scales")
    shutil.copytree(ROOT / "reports/miniature", root / "reports/miniature")
    (root / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, root / ".dvc")
    shutil.copytree(ROOT / ".dvc/plots", root / ".dvc/plots")
    (root / "reports/miniature/losses.csv").write_text(CURVES)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    changed = {"params.yaml": ("schedule: 130k", "schedule: 3x")}
    changed["reports/miniature/metrics.json"] = ('"gain": ', '"gain": 1')
    for name, (old, new) in changed.items():
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))
    first = git(root, "rev-parse", "HEAD")
    git(root, "commit", "-qam", "longer")  # what `dvc exp save` does where all outputs are there
    git(root, "update-ref", f"refs/exps/{first[:2]}/{first[2:]}/longer", "HEAD")
    git(root, "reset", "-q", "--hard", first)
    return root


def git(root: Path, *words: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True)
    return done.stdout.decode().strip()


def dvc(root: Path, *words: str) -> str:
    command = [sys.executable, "-m", "dvc", *words]
    done = subprocess.run(command, cwd=root, text=True, capture_output=True)
    assert done.returncode == 0 and "failed to load" not in done.stderr, done.stderr
    return done.stdout


@contextmanager
def another_scale(root: Path) -> Iterator[None]:
    """The workspace as a run of scale `smoke` leaves it."""
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("scale: miniature", "scale: smoke"))
    made = root / "reports/smoke"
    made.mkdir()
    shutil.copy(root / "reports/miniature/metrics.json", made)
    yield
    shutil.rmtree(made)
    git(root, "checkout", "-q", "params.yaml")


def test_the_readme_draws_the_dag(project):
    """Without stage `code`, on which all depend, and without edges that a longer way implies."""
    drawn = dvc(project, "dag", "--mermaid")
    names = dict(re.findall(r'(node\d+)\["(\w+)"\]', drawn))
    dag = networkx.DiGraph(re.findall(r"(node\d+)-->(node\d+)", drawn))
    dag = networkx.relabel_nodes(dag, names)
    dag.remove_node("code")
    assert set(dag) == set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]) - {"code"}
    dag = networkx.transitive_reduction(dag)
    order = networkx.lexicographical_topological_sort(dag)
    lines = [f"  {one} --> {' & '.join(sorted(dag[one]))}" for one in order if dag[one]]
    assert "\n".join(["```mermaid", "flowchart TD", *lines, "```"]) in README


@pytest.mark.slow
def test_experiments_are_a_table_that_can_be_read(project):
    (command,) = re.findall(r"uv run dvc (exp show .*?) +#", README)
    rows = list(csv.DictReader(io.StringIO(dvc(project, *shlex.split(command), "--csv"))))
    # of workspace, commit and experiment
    assert [row["schedule"] for row in rows] == ["130k", "130k", "3x"]
    gains = [name for name in rows[0] if "gain" in name]
    assert len(gains) == 4 and all(row[name] for row in rows for name in gains)
    shown = set(rows[0]) - {"Experiment", "rev", "typ", "Created", "parent"}
    assert shown == {"schedule", *gains}
    table = dvc(project, *shlex.split(command)).splitlines()
    assert max(map(len, table)) < 180
    with another_scale(project):  # DVC then puts the file before each number's name
        rows = list(csv.DictReader(io.StringIO(dvc(project, *shlex.split(command), "--csv"))))
    gains = [name for name in rows[0] if name.endswith("gain")]
    assert len(gains) == 8 and rows[0]["scale"] == "smoke" and rows[1]["scale"] == "miniature"
    assert all(any(row[name] for row in rows) for name in gains)


@pytest.mark.slow
def test_metrics_are_the_headline_numbers(project):
    changes = json.loads(dvc(project, "metrics", "diff", "HEAD", "longer", "--all", "--json"))
    (numbers,) = changes.values()
    assert len(numbers) == 12 and len({name.rpartition(".")[2] for name in numbers}) == 3
    ((_, gain),) = [(name, one) for name, one in numbers.items() if one["diff"]]
    assert gain["new"] - gain["old"] == pytest.approx(gain["diff"]) and gain["diff"] >= 10
    assert len(dvc(project, "exp", "diff", "HEAD", "longer").splitlines()) < 24


def test_plots_of_two_experiments_can_be_told_apart(project):
    found = json.loads(dvc(project, "plots", "diff", "HEAD", "longer", "--json"))["data"]
    assert list(found) == PLOTS
    for name, (plot,) in found.items():
        content = plot["content"]
        points = content["data"]["values"]
        assert {point["rev"] for point in points} == {"HEAD", "longer"}, name
        fields = set(re.findall(r'"field": "(\w+)"', json.dumps(content))) - {"tested"}
        assert fields <= points[0].keys(), name
        assert '"rev"' in json.dumps(
            content["facet"] if "facet" in content else content["encoding"]
        )


def test_plots_need_no_network(project):
    dvc(project, "plots", "show")
    page = (project / "dvc_plots/index.html").read_text()
    assert page.count("vegaEmbed('#") == len(PLOTS)
    assert not re.findall(r"<(?:script|link)[^>]*(?:src|href)=", page)
    from dvc_render.vega import VegaRenderer

    wanted = re.findall(r"npm/([\w-]+)@([\d.]+)", VegaRenderer.SCRIPTS)
    assert len(wanted) == 3 and all(f"/* {name} {version} */" in page for name, version in wanted)
    assert git(project, "status", "--porcelain") == ""  # the page is ignored


@pytest.mark.slow
def test_a_running_training_is_shown(project):
    """By the files that `study.runs.live` writes, which tests/test_live.py looks into."""
    from study.runs import live

    folder = project / "live"
    folder.mkdir()
    (folder / "metrics.json").write_text('{"opmask-R50-voc-0": {"iteration": 20}}')
    (folder / "losses.csv").write_text(CURVES)
    (folder / "dvc.yaml").write_text(yaml.safe_dump(live.DVC))
    try:
        (now, commit) = json.loads(dvc(project, "exp", "show", "--json"))[:2]
        plots = json.loads(dvc(project, "plots", "show", "--json"))["data"]
    finally:
        shutil.rmtree(folder)
    shown = now["data"]["metrics"]["live/metrics.json"]["data"]
    assert shown == {"opmask-R50-voc-0": {"iteration": 20}}
    assert "live/metrics.json" not in commit["data"]["metrics"]
    assert [name for name in plots if "Training loss now" in name]
    assert list(pd.read_csv(io.StringIO(CURVES)))[-2:] == ["iteration", "total_loss"]
