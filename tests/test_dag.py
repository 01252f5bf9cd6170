"""The whole DAG at scale `smoke`, by DVC, in a clone: what is made, and what is not made again."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from test_notebooks import execute_notebooks

from study.spec import code

ROOT = Path(__file__).parents[1]
PARAMETERS = ("params.yaml", "paper.yaml", "scales")
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
        witness = path.parent / "witness"
        witness.mkdir()
        (witness / "sitecustomize.py").write_text(WITNESS)
        self.environment = {**os.environ, **who, "PATH": binaries, "PYTHONWARNINGS": "ignore"}
        self.environment["PYTHONPATH"] = str(witness)
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        files = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, files.split("\0")):
            made = name.startswith("reports/") and not name.startswith("reports/experiments/")
            if (ROOT / name).is_file() and not made and name != "dvc.lock":
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, path / name)
        self.run("git", "init", "-q")
        self.edit_params("scale: miniature", "scale: smoke")
        self.edit_params("runs: []", f"runs: [{', '.join(ALL_RUNS)}]")

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
        files = [self.path / name for name in ("params.yaml", "paper.yaml")]
        file = next(one for one in files if old in one.read_text())
        file.write_text(file.read_text().replace(old, new, 1))
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", f"{old} → {new}")

    def opened(self) -> dict[str, set[str]]:
        """By stage, the files that its processes read and that are still there."""
        found: dict[str, set[str]] = {}
        for line in set((self.path / ".git/opened").read_text().splitlines()):
            stage, file = line.split(" ", 1)
            if Path(file).suffix == ".pyc":  # opmask/__pycache__/config.cpython-311.pyc
                file = str(Path(file).parents[1] / Path(file).name.split(".")[0]) + ".py"
            if (self.path / file).is_file():
                found.setdefault(stage, set()).add(file)
        return found

    def out_of_date(self) -> set[str]:
        """Stages whose code is not that of their results, as DVC sees it."""
        self.run(sys.executable, "-m", "pipeline.code")
        status = json.loads(self.dvc("status", "--json"))
        return {
            stage
            for stage, reasons in status.items()
            for reason in reasons
            if isinstance(reason, dict)
            and any(path.startswith("runs/code") for path in reason.get("changed deps", {}))
        }

    def lock(self, stage: str) -> dict:
        return yaml.safe_load((self.path / "dvc.lock").read_text())["stages"][stage]


def stages_run(output: str) -> list[str]:
    """All but stages `code` and `inputs`, which always run."""
    found = re.findall(r"Running stage '([^']+)'", output)
    return [name for name in found if name not in ("code", "inputs")]


# Notes which of the repository's files each stage's processes read, modules included.
WITNESS = """
import os, pathlib, sys

stage, root = os.environ.get("DVC_STAGE"), os.getcwd()
seen = set()

def note(event, arguments):
    if event != "open" or not isinstance(arguments[0], (str, bytes)):
        return
    path = os.path.abspath(os.fsdecode(arguments[0]))
    inside = path.startswith(root + "/") and "/." not in path[len(root):]
    if inside and path not in seen and not any(flag in str(arguments[1]) for flag in "wax+"):
        seen.add(path)
        line = f"{stage} {path[len(root) + 1:]}\\n".encode()
        file = os.open(root + "/.git/opened", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, line)
        os.close(file)

if stage:
    sys.addaudithook(note)
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    clone = Clone(tmp_path_factory.mktemp("clone"))
    clone.first = clone.dvc("repro")
    clone.run("git", "add", "-A")
    clone.run("git", "commit", "-qm", "first")
    return clone


ANALYSES = ["table1", "cam", "tables", "regression", "contrasts", "figure6", "search"]
ANALYSES += [
    "controls",
    "rivals",
    "schedule_search",
    "ambiguity",
    "oracle",
    "gallery",
    "claims",
    "report",
]


def test_every_stage_ran_once(clone):
    assert "Running stage 'code'" in clone.first and "Running stage 'inputs'" in clone.first
    expected = ["data", "splits", "plan", "pretrain", "train", "evaluate", "overlap", *ANALYSES]
    assert sorted(stages_run(clone.first)) == sorted(expected)
    for run in ALL_RUNS:  # a line each, and no more
        assert len(re.findall(f"^{run}-0: trained, .* of 8 runs", clone.first, re.M)) == 1
        assert len(re.findall(f"^{run}-0: (novel|all) classes: .*box AP50", clone.first, re.M)) == 1
    assert clone.first.count("No file hash info found") == 0
    assert (clone.path / "dvc.lock").stat().st_size < 40_000
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
    assert "novel_AP" in clone.dvc("metrics", "show", "--json")


def test_work_has_of_each_run_what_is_published_on_the_same_disk(clone):
    for run in ALL_RUNS:
        (work,) = clone.path.glob(f"work/smoke-{run}-0-*")
        assert {path.name for path in work.iterdir()} == {"published", "lock0"}
        weights = clone.path / f"runs/smoke/train/{run}-0/model_final.pth"
        assert (work / "published/model_final.pth").samefile(weights)  # by stage `report`


def test_notebooks_run(clone):
    execute_notebooks(clone.path)


def test_the_plan_says_that_all_is_done(clone):
    assert "nothing is left to train" in clone.run(sys.executable, "-m", "pipeline.outline")


def test_nothing_reruns(clone):
    assert stages_run(clone.dvc("repro")) == []


def test_the_command_in_a_report_makes_that_report(clone):
    page = clone.path / "reports/smoke/README.md"
    before = page.read_text()
    (command,) = re.findall(r"uv run dvc (exp run .+)", before)
    page.unlink()
    again = clone.dvc(*shlex.split(command))
    assert stages_run(again) in ([], ["report"]) and page.read_text() == before
    clone.run("git", "checkout", "-q", "params.yaml")


def test_editing_a_schedule_that_no_run_uses_trains_nothing(clone):
    clone.edit_params("max_iter: 270000", "max_iter: 300000")
    assert set(stages_run(clone.dvc("repro"))) == {"plan", "schedule_search", "claims", "report"}
    clone.edit_params("max_iter: 300000", "max_iter: 270000")
    assert set(stages_run(clone.dvc("repro"))) <= {"plan", "schedule_search", "claims", "report"}


def test_another_schedule_and_back(clone):
    before = clone.lock("train")
    narrow = "runs=[opmask-R50-voc]"
    ran = stages_run(clone.dvc("exp", "run", "-S", "schedule=3x", "-S", narrow))
    assert {"train", "evaluate", "report"} <= set(ran)
    assert not {"data", "splits"} & set(ran)  # the warm start of R101 is not needed
    provenance = clone.path / "runs/smoke/train/opmask-R50-voc-0/provenance.json"
    assert json.loads(provenance.read_text())["iterations"] == 5
    assert not (clone.path / "runs/smoke/train/maskrcnn-R50-voc-0").exists()
    assert "not run" in (clone.path / "reports/smoke/tables/table1.md").read_text()

    clone.run("git", "checkout", "-q", "params.yaml")
    back = stages_run(clone.dvc("repro"))
    assert not {"train", "evaluate", "pretrain"} & set(back)  # from DVC's cache
    assert json.loads(provenance.read_text())["iterations"] == 3
    assert clone.lock("train") == before


def test_one_run_less_and_one_more_train_and_evaluate_nothing_else(clone):
    listed = f", {SEARCH}"
    clone.edit_params(listed, "")
    less = clone.dvc("repro")
    assert "7 of 7 runs are trained" in less and "smoke-evaluate:" not in less
    shutil.rmtree(clone.path / "work")  # as in a fresh clone with what `dvc pull` brought
    clone.edit_params("maskrcnn-R50-nonvoc,", "maskrcnn-R50-nonvoc, opmask-R50-all,")
    more = clone.dvc("repro")
    assert "7 of 8 runs are trained" in more
    assert re.findall(r"^(\S+): trained, ", more, re.M) == ["opmask-R50-all-0"]
    assert re.search(r"smoke-evaluate: +100%.* 2/2 ", more)  # with the floors of a new split
    clone.edit_params(", opmask-R50-all", listed)


def test_no_stage_reads_what_it_does_not_depend_on(clone):
    """In all that ran so far. What the code says is one thing, this is what really happened."""
    opened = clone.opened()
    stages = yaml.safe_load((clone.path / "dvc.lock").read_text())["stages"]
    # Reports of all scales, which are set side by side; what work/ shares the disk with.
    kept = {f"runs/smoke/{name}" for name in ("train", "evaluate", "cam", "search")}
    known = {"report": {"reports", *kept}, "inputs": kept}
    for name, entry in stages.items():
        paths = {item["path"] for item in (*entry.get("deps", []), *entry.get("outs", []))}
        if "data/smoke/manifest.json" in paths:  # has digests of the files beside it
            paths.add("data/smoke")
        known.setdefault(name, set()).update(paths)
    for stage, files in opened.items():
        code = ("opmask", "study", "pipeline", "dvc.yaml", "dvc.lock", "work", *PARAMETERS)
        places = [Path(place) for place in (*code, *known[stage])]
        assert not [f for f in files if not any(Path(f).is_relative_to(p) for p in places)], stage


def test_no_stage_runs_code_that_is_not_on_its_record(clone):
    opened = clone.opened()
    assert {"train", "evaluate", "pretrain", "report"} <= opened.keys()
    assert "opmask/training/trainer.py" in opened["train"]
    for stage, files in opened.items():
        if stage == "code":
            continue
        record = json.loads((clone.path / f"runs/code/{stage}.json").read_text())
        names = [*record["modules"], *code.PROJECT.exempt]
        known = {str(code.PROJECT.files[name].relative_to(ROOT)) for name in names}
        known |= record["data"].keys()
        known |= {f"study/spec/schema/{name}.yaml" for name in ("schema", "decided")}  # exempt
        files = {file for file in files if file.startswith(("opmask/", "study/", "pipeline/"))}
        assert not files - known, stage


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        (
            "opmask/data/splits.py", "count > 1", "count > 2",
            {"plan", "splits", "train", "evaluate"},
        ),
        (
            "study/spec/results.py", '"novel" if c in split.novel else "supervised"',
            '"supervised" if c in split.novel else "novel"', {"evaluate", "cam", "table1"},
        ),
        ("study/figures/figure6.py", "def ", "x = 1\n\n\ndef ", {"figure6"}),
        ("opmask/model/roi_heads.py", "def ", "# a comment\ndef ", set()),
    ],
)  # fmt: skip
def test_an_edit_makes_out_of_date_what_rests_on_it(clone, file, old, new, stages):
    path = clone.path / file
    text = path.read_text()
    assert old in text and clone.out_of_date() == set()
    path.write_text(text.replace(old, new, 1))
    try:
        found = clone.out_of_date()
    finally:
        path.write_text(text)
        clone.run(sys.executable, "-m", "pipeline.code")
    assert stages <= found and (len(stages) > 1 or found == stages)
    assert "pretrain" not in found


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schedule: 130k", "schedule: 131k", "schedule: '131k' is unknown; did you mean '130k'?"),
        (
            "- opmask-R50-voc",
            "- opmusk-R50-voc",
            "method: 'opmusk' is unknown; did you mean 'opmask'?",
        ),
        ("scale: smoke", "scale: coco", "data_root: is missing; it is for scale coco the folder"),
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
