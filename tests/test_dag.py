"""The whole DAG at scale `smoke`, by DVC, in a clone: what is made, and what is not made again."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from test_notebooks import execute_notebooks

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.dag


RUNS = [
    *(f"{method}-R50-{split}" for method in ("maskrcnn", "opmask") for split in ("voc", "nonvoc")),
    *("maskrcnn-R101-voc", "opmask-R101-voc"),
]
SEARCH, CAMS = "opmask-R50-voc-search", "fasterrcnn-R50-all"  # of section 4.5 and Table 2
ALL_RUNS = [*RUNS, SEARCH, CAMS]


class Clone:
    """A repository with this working tree's files, committed, and DVC in it."""

    def __init__(self, path: Path):
        self.path = path
        binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        who = {
            f"GIT_{w}_{k}": "t@example.org"
            for w in ("AUTHOR", "COMMITTER")
            for k in ("NAME", "EMAIL")
        }
        self.environment = {**os.environ, **who, "PATH": binaries, "PYTHONWARNINGS": "ignore"}
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        files = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, files.split("\0")):
            if (ROOT / name).is_file() and not name.startswith("reports/") and name != "dvc.lock":
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, path / name)
        self.run("git", "init", "-q")
        self.edit_params("scale: miniature", "scale: smoke")
        params = (path / "params.yaml").read_text()
        listed = re.search(r"\nruns:\n(?:  .*\n)+", params)[0]
        self.edit_params(listed, "\nruns:\n" + "".join(f"  - {run}\n" for run in ALL_RUNS))

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(
            command, cwd=self.path, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    def dvc(self, *words: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *words)

    def edit_params(self, old: str, new: str) -> None:
        params = self.path / "params.yaml"
        text = params.read_text()
        assert old in text
        params.write_text(text.replace(old, new, 1))
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", new)

    def lock(self, stage: str) -> dict:
        return yaml.safe_load((self.path / "dvc.lock").read_text())["stages"][stage]


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    clone = Clone(tmp_path_factory.mktemp("clone"))
    clone.first = clone.dvc("repro")
    clone.run("git", "add", "-A")
    clone.run("git", "commit", "-qm", "first")
    return clone


ANALYSES = ["table1", "cam", "tables", "regression", "contrasts", "figure6", "search"]
ANALYSES += ["schedule_search", "ambiguity", "gallery", "claims", "report", "page"]


def test_every_stage_ran_once(clone):
    expected = ["data", "splits", "plan", "pretrain", "sweep", "overlap", *ANALYSES]
    expected += [f"{stage}@{run}-0" for stage in ("train", "evaluate") for run in ALL_RUNS]
    assert sorted(stages_run(clone.first)) == sorted(expected)
    assert "WARNING" not in clone.first


def test_reports_exist_and_parse(clone):
    reports = clone.path / "reports"
    table = pd.read_csv(reports / "smoke/tables/table1.csv")
    assert set(table["backbone"]) == {"R50", "R101"}
    novel = table.query("classes == 'novel' and task == 'segm' and metric == 'AP'")
    ours = novel[~novel["quoted"]]
    run = (ours["backbone"] == "R50") | (ours["supervised"] == "voc")
    assert (ours.loc[run, "seeds"] == 1).all() and ours.loc[run, "ours"].notna().all()
    assert (ours.loc[~run, "seeds"] == 0).all()
    per_class = pd.read_csv(reports / "smoke/tables/per_class.csv")
    assert per_class.groupby(["run", "task"]).size().eq(80).all()
    assert per_class["run"].nunique() == len(ALL_RUNS)
    curve = pd.read_csv(clone.path / f"runs/smoke/search/{SEARCH}-0/curve.csv")
    assert curve["iteration"].tolist() == sorted(curve["iteration"]) and len(curve)
    cams = pd.read_csv(clone.path / f"runs/smoke/cam/{CAMS}-0/per_class.csv")
    assert len(cams) == 80 and set(cams["task"]) == {"segm"}
    for number in (1, 3, 4, 5, 6, 7, 8):
        assert (reports / f"smoke/figures/figure{number}.png").stat().st_size > 5000
    json.loads((reports / "smoke/metrics.json").read_text())
    assert "smoke" in (reports / "README.md").read_text()
    for page in ("README.md", "smoke/README.md", "smoke/tables/table1.md", "smoke/index.html"):
        assert (reports / page).stat().st_mtime >= (
            reports / "smoke/tables/table1.csv"
        ).stat().st_mtime


def test_a_run_leaves_what_dvc_and_detectron2_read(clone):
    folder = clone.path / "runs/smoke/train/opmask-R50-voc-0"
    assert "CAMBoxHead" in (folder / "config.yaml").read_text()
    assert json.loads((folder / "provenance.json").read_text())["iterations"] == 3
    losses = pd.read_csv(folder / "losses/loss_mask.tsv", sep="\t")
    assert losses["step"].tolist() == [1, 2, 3]
    assert "mask_AP" in clone.dvc("metrics", "show", "--json")
    assert not list((clone.path / "work").glob("smoke-*"))  # stage `report` clears the last


def test_notebooks_run(clone):
    execute_notebooks(clone.path)


def test_the_plan_says_that_all_is_done(clone):
    assert "nothing is left to train" in clone.run(sys.executable, "-m", "pipeline.outline")


def test_nothing_reruns(clone):
    assert stages_run(clone.dvc("repro")) == []


def test_editing_a_schedule_that_no_run_uses_trains_nothing(clone):
    clone.edit_params("max_iter: 270000", "max_iter: 300000")
    assert set(stages_run(clone.dvc("repro"))) == {"plan", "schedule_search"}
    clone.edit_params("max_iter: 300000", "max_iter: 270000")
    assert set(stages_run(clone.dvc("repro"))) <= {"plan", "schedule_search"}


def test_another_schedule_and_back(clone):
    before = {run: clone.lock(f"train@{run}-0") for run in RUNS}
    narrow = "runs=[maskrcnn-R50-voc,opmask-R50-voc]"
    output = clone.dvc("exp", "run", "-S", "schedule=3x", "-S", narrow)
    ran = stages_run(output)
    assert {"train@opmask-R50-voc-0", "evaluate@opmask-R50-voc-0", "report"} <= set(ran)
    assert not {"data", "splits", "pretrain"} & set(ran)
    provenance = clone.path / "runs/smoke/train/opmask-R50-voc-0/provenance.json"
    assert json.loads(provenance.read_text())["iterations"] == 5
    assert "not run" in (clone.path / "reports/smoke/tables/table1.md").read_text()

    clone.run("git", "checkout", "-q", "params.yaml")
    back = stages_run(clone.dvc("repro"))
    assert not [stage for stage in back if stage.startswith(("train", "evaluate", "pretrain"))]
    assert json.loads(provenance.read_text())["iterations"] == 3
    assert {run: clone.lock(f"train@{run}-0") for run in RUNS} == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schedule: 130k", "schedule: 131k", "schedule: '131k' is unknown; there are 1x, 130k, 3x"),
        ("- opmask-R50-voc", "- opmusk-R50-voc", "method: 'opmusk' is unknown; there are"),
        ("scale: smoke", "scale: coco", "annotations/instances_train2017.json"),
    ],
)
def test_bad_parameters_stop_before_anything_is_trained(clone, old, new, message):
    clone.edit_params(old, new)
    try:
        stage = "pipeline.data" if "scale" in old else "pipeline.plan"
        output = clone.run(sys.executable, "-m", stage, check=False)
    finally:
        clone.edit_params(new, old)
    assert output.startswith("error: ")
    assert message in output
    assert len(output.strip().splitlines()) == 1
