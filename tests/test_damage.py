"""Damaged checkpoints are named and passed over, damaged results are named and refused."""

import json
import shutil
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from kill_points import KEY, Harness, in_fork, in_this_process, reproduce, results
from test_training import Interrupted, assert_same, interrupt_at
from tiny import tiny_cfg, write_images

from opmask.errors import UserError
from opmask.evaluation.trained import find_trained
from opmask.integrity import sum_file, verified
from opmask.training import trainer
from opmask.training.trainer import Hardware
from opmask.training.trunk import Trunk
from pipeline import evaluate, train
from study.analysis.resampling import Matches
from study.report.inputs import read_trained
from study.runs import train_all
from study.spec.params import load_params
from study.spec.results import read_json, read_one
from study.spec.run import all_runs

pytestmark = pytest.mark.slow

NEWEST, BEFORE = "model_0000003.pth", "model_0000001.pth"


def flip(share: float):
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[min(int(share * len(data)), len(data) - 1)] ^= 1
        path.write_bytes(data)

    return damage


def truncate(keep: float):
    def damage(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: min(int(keep * len(data)), len(data) - 1)])

    return damage


def swap(path: Path) -> None:
    """The checkpoint before, with its own checksum, under this one's name."""
    shutil.copy(path.with_name(BEFORE), path)
    text = sum_file(path.with_name(BEFORE)).read_text().replace(BEFORE, path.name)
    sum_file(path).write_text(text)


def of_another_training(path: Path) -> None:
    """Whole, of the same iteration and shape."""
    shutil.copy(path.parent.with_name("other") / path.name, path)
    shutil.copy(sum_file(path.parent.with_name("other") / path.name), sum_file(path))


DAMAGES = {
    **{f"a bit at {share:.0%}": flip(share) for share in (0, 0.3, 0.5, 1)},
    "half of it": truncate(0.5),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "the one before": lambda path: shutil.copy(path.with_name(BEFORE), path),
    "the one before, with its checksum": swap,
    "another training's": of_another_training,
    "no checksum": lambda path: sum_file(path).unlink(),
    "empty checksum": lambda path: sum_file(path).write_text(""),
    "binary checksum": lambda path: sum_file(path).write_bytes(b"\xff\xfe\x00" * 30),
    "another file's checksum": lambda p: shutil.copy(sum_file(p.with_name(BEFORE)), sum_file(p)),
}


class Trainings:
    """Folders `whole`, `stopped` (with checkpoints of iterations 1 and 3, of 6) and `other`."""

    def __init__(self, root: Path):
        self.root, self.data, self.cfg = root, write_images(root / "images"), tiny_cfg(6)
        self.expected = self.train("whole", self.cfg)
        for name, cfg in (("stopped", self.cfg), ("other", tiny_cfg(6, SOLVER__BASE_LR=0.001))):
            with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
                interrupt_at({5: "error"}, patch)
                self.train(name, cfg)

    def train(self, name: str, cfg, trunk=None) -> dict[str, torch.Tensor]:
        args = cfg, self.data, self.root / name, Hardware()
        final = trainer.train(*args, description="test", trunk=trunk)
        return torch.load(final, weights_only=True)["model"]

    def copy(self, name: str) -> Path:
        """As `name` is: where a training works is part of what its checkpoints say."""
        kept, work = self.root / f"{name}.kept", self.root / name
        if not kept.exists():
            shutil.copytree(work, kept)
        shutil.rmtree(work)
        shutil.copytree(kept, work)
        return work

    def resumed(self, name: str, monkeypatch) -> tuple[list[int], list[str]]:
        """The iterations that a training in `name` did, and its warnings; its weights are right."""
        done, step = [], trainer.SeedEveryIteration.before_step

        def counted(hook):
            done.append(hook.trainer.iter)
            step(hook)

        monkeypatch.setattr(trainer.SeedEveryIteration, "before_step", counted)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert_same(self.train(name, self.cfg), self.expected)
        return done, [str(w.message) for w in caught if "is not used" in str(w.message)]


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    return Trainings(tmp_path_factory.mktemp("trainings"))


def test_nothing_is_said_of_whole_checkpoints(trainings, monkeypatch):
    trainings.copy("stopped")
    assert trainings.resumed("stopped", monkeypatch) == ([4, 5], [])


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checkpoint_before_takes_over(damage, trainings, monkeypatch):
    work = trainings.copy("stopped")
    DAMAGES[damage](work / NEWEST)
    done, said = trainings.resumed("stopped", monkeypatch)
    assert done == [2, 3, 4, 5]
    assert len(said) == 1 and str(work / NEWEST) in said[0]


@pytest.mark.parametrize("damage", ["a bit at 50%", "empty", "no checksum"])
def test_without_a_good_one_it_starts_again(damage, trainings, monkeypatch):
    work = trainings.copy("stopped")
    for name in (NEWEST, BEFORE):
        DAMAGES[damage](work / name)
    done, said = trainings.resumed("stopped", monkeypatch)
    assert done == [0, 1, 2, 3, 4, 5]
    assert [str(work / name) in text for name, text in zip((NEWEST, BEFORE), said, strict=True)]


def test_a_missing_checkpoint_is_no_dead_end(trainings, monkeypatch):
    work = trainings.copy("stopped")
    (work / NEWEST).unlink()
    assert trainings.resumed("stopped", monkeypatch)[0] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    "text", ["model_0000009.pth", "/etc/passwd", "../other/model_0000003.pth", "", "\0", "."]
)
def test_last_checkpoint_is_never_followed(text, trainings, monkeypatch):
    work = trainings.copy("stopped")
    (work / "last_checkpoint").write_text(text)
    assert trainings.resumed("stopped", monkeypatch) == ([4, 5], [])


@pytest.mark.parametrize("damage", ["a bit at 30%", "half of it", "no checksum"])
def test_damaged_final_weights_are_trained_again_from_the_last_checkpoint(
    damage, trainings, monkeypatch
):
    work = trainings.copy("whole")
    (work / "model_0000005.pth").unlink()
    DAMAGES[damage](work / trainer.FINAL)
    done, said = trainings.resumed("whole", monkeypatch)
    assert done == [4, 5] and len(said) == 1 and str(work / trainer.FINAL) in said[0]


def test_killed_between_the_last_checkpoint_and_the_final_one(trainings, monkeypatch):
    work = trainings.copy("whole")
    (work / trainer.FINAL).unlink()
    assert trainings.resumed("whole", monkeypatch) == ([], [])


def test_two_checkpoints_are_kept(trainings):
    work = trainings.copy("whole")
    assert sorted(path.name for path in work.glob("model_0*.pth")) == [
        "model_0000003.pth",
        "model_0000005.pth",
    ]


@pytest.mark.parametrize("what", ["model_0000003.pth", "logs_0000003/metrics.json"])
def test_a_damaged_trunk_is_not_built_on(what, trainings, tmp_path, monkeypatch):
    trunk = Trunk(tmp_path / "trunk", (2, 4))
    trainings.train("first", trainings.cfg, trunk)
    flip(0.5)(trunk.folder / what)
    with pytest.warns(UserWarning, match="model_0000003.pth is not used"):
        found = trainings.train("branch", trainings.cfg, trunk)
    assert_same(found, trainings.expected)
    log = (trainings.root / "branch/metrics.json").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in log] == [0, 1, 2, 3, 4, 5]
    for name in ("first", "branch"):
        shutil.rmtree(trainings.root / name)


def test_a_damaged_snapshot_is_made_again(trainings, tmp_path, monkeypatch):
    cfg = tiny_cfg(6, SOLVER__SNAPSHOT_PERIOD=3)
    trainings.train("snapshots", cfg)
    work = trainings.root / "snapshots"
    right = {path.name: path.read_bytes() for path in (work / "snapshots").glob("*.pth")}
    assert list(sorted(right)) == ["model_0000003.pth", "model_0000006.pth"]
    flip(0.5)(work / "snapshots/model_0000003.pth")
    with pytest.warns(UserWarning, match="snapshots/model_0000003.pth: its SHA-256 is not"):
        trainings.train("snapshots", cfg)
    assert {p.name: p.read_bytes() for p in (work / "snapshots").glob("*.pth")} == right


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Harness:
    """A tiny project whose run was trained, published, evaluated and recorded by DVC."""
    return Harness(tmp_path_factory.mktemp("finished") / "trials")


@pytest.fixture
def project(finished, monkeypatch):
    folder = finished.root / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(finished.root / "whole", folder)
    monkeypatch.chdir(folder)
    return folder


def read_all() -> None:
    """What the stages after `evaluate`, `predict` and a reader of the page read of the run."""
    run = all_runs(load_params())[0]
    trained, evaluated = Path("runs/smoke/train", KEY), Path("runs/smoke/evaluate", KEY)
    found = find_trained(trained, "cpu")
    verified(found.weights)
    read_trained(Path("runs/smoke/train"), [run])
    for name in ("snapshots", "held_out.json", "metrics.json"):
        verified(trained / name)
    read_one(evaluated / "per_class.csv", run)
    for task in ("bbox", "segm"):
        Matches.load(evaluated / f"matches_{task}.npz")
    for name in ("metrics.json", "provenance.json"):
        read_json(evaluated / name)
    verified(evaluated / "detections.json")


def test_whole_results_are_read(project):
    read_all()


@pytest.mark.parametrize(
    "name",
    [f"train/{KEY}/{name}" for name in ("model_final.pth", "config.yaml", "held_out.json")]
    + [f"train/{KEY}/{name}" for name in ("provenance.json", "losses/lr.tsv", "metrics.json")]
    + [f"train/{KEY}/snapshots/index.json"]
    + [f"evaluate/{KEY}/{name}" for name in ("detections.json", "per_class.csv", "metrics.json")]
    + [f"evaluate/{KEY}/{name}" for name in ("matches_segm.npz", "provenance.json")],
)
@pytest.mark.parametrize("damage", ["a bit at 50%", "half of it", "empty", "zeroed", "missing"])
def test_damaged_results_are_refused_by_name(name, damage, project):
    path = Path("runs/smoke", name)
    Path.unlink(path) if damage == "missing" else DAMAGES[damage](path)
    with pytest.raises(
        UserError, match=rf"{path.name}: (damaged|missing|no such)|has no {path.name}"
    ) as error:
        read_all()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["a bit at 50%", "half of it"])
@pytest.mark.parametrize("name", ["model_final.pth", "config.yaml", "SHA256SUMS"])
def test_evaluate_refuses_a_damaged_run_and_says_what_makes_it_again(name, damage, project, capsys):
    """Seen: a flipped model_final.pth evaluated, with exit code 0."""
    path = Path("runs/smoke/train", KEY, name)
    if name == "SHA256SUMS" and damage != "half of it":  # the weights' line
        path.write_text(path.read_text().replace("  model_final.pth", "  model_fin@l.pth"))
    else:
        DAMAGES[damage](path)
    with pytest.raises(SystemExit) as ending:
        evaluate.run([])
    assert ending.value.code == 2
    said = capsys.readouterr().err
    assert name in said and "dvc repro, or dvc checkout" in said and said.count("\n") == 1


def test_dvc_repro_mends_a_damaged_result(finished, project):
    flip(0.5)(Path("runs/smoke/train", KEY, "model_final.pth"))
    done = in_fork(partial(reproduce, project), project)
    assert done.code == 0 and done.trained == 0  # from DVC's cache
    assert results(project) == finished.expected


def test_what_is_damaged_in_the_store_is_named_and_made_again(finished, project, monkeypatch):
    monkeypatch.setattr(train_all, "run_side_by_side", in_this_process)
    for name in ("train", "evaluate"):
        shutil.rmtree(Path("runs/smoke", name))  # as DVC does
    (published,) = project.glob("work/*/published")
    flip(0.5)(published / "model_final.pth")
    with pytest.warns(UserWarning, match="model_final.pth: damaged.*it is made again"):
        train.run([])
    for measured in project.glob("work/measured/smoke-evaluate/*-*/detections.json"):
        flip(0.5)(measured)
    with pytest.warns(UserWarning, match="detections.json: damaged.*it is made again"):
        evaluate.run([])
    assert results(project) == finished.expected


def test_the_store_brings_back_what_dvc_has_lost(finished, project):
    """Training nothing, whatever of dvc.lock, DVC's cache and its outputs is gone."""
    for path in (".dvc/cache", "runs/smoke/train", "runs/smoke/evaluate"):
        shutil.rmtree(path)
    Path("dvc.lock").unlink()
    done = in_fork(partial(reproduce, project), project)
    assert done.code == 0 and done.trained == 0, done.text
    assert results(project) == finished.expected
