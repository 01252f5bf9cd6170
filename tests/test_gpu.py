"""The session on a GPU: rehearsed on CPU, and for real where there is one (`-m gpu`)."""

import multiprocessing
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch

import opmask
from benchmarks import __main__ as command_line
from benchmarks.gpu import PARTS, command
from benchmarks.gpu.__main__ import run as run_part
from benchmarks.gpu.profiling import waits
from benchmarks.gpu.setting import Setting, relative
from opmask.training import launch

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(
    scope="module", params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]
)
def setting(request, tmp_path_factory) -> Setting:
    return Setting(request.param, "smoke", tmp_path_factory.mktemp("gpu"))


def rows_of(part: str, setting: Setting) -> pd.DataFrame:
    """As the command runs it, by the file that it leaves; nothing in it failed."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        run_part(part, setting.device, setting.scale, str(setting.folder))
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
    rows = pd.read_csv(setting.folder / f"{part}.csv")
    assert len(rows) and ("error" not in rows or rows["error"].isna().all()), rows["error"].tolist()
    assert {"machine", "versions", "commit"} < set(rows)
    return rows


def test_a_machine_tells_what_it_is(setting):
    rows = rows_of("machine", setting)
    assert rows["gpus"][0] == torch.cuda.device_count()
    assert (rows["tflop_s"][1:] > 0).all() and len(rows) == 9


@pytest.mark.slow
def test_a_step_is_that_of_the_cpu(setting):
    rows = rows_of("parity", setting)
    reference, *others = rows.to_dict("records")
    assert reference["gradient_off"] == reference["loss_off"] == 0
    for row, loss, gradient in zip(others, (1e-4, 0.01, 0.02), (1e-3, 0.02, 0.05), strict=True):
        assert row["device"] == setting.device
        assert row["loss_off"] < loss and row["gradient_off"] < gradient, row
    assert others[-1]["gradient_off"] > 1e-4  # bf16 was computed at all


@pytest.mark.slow
def test_detections_are_those_of_the_cpu(setting):
    rows = rows_of("inference", setting)
    found = rows[rows["found_again"].notna()].set_index("precision")
    assert found["found_again"].iloc[0] == found["mask_iou"].iloc[0] == 1
    exact, rounded = found.iloc[1], found.iloc[3]
    assert exact["found_again"] > 0.98 and exact["worst_mask_iou"] > 0.99
    assert rounded["mask_iou"] > 0.9
    assert rows["images_per_s"].notna().any()


@pytest.mark.slow
def test_a_resumed_training_is_the_uninterrupted_one(setting):
    """On a GPU up to the order in which RoIAlign's gradient is summed up."""
    rows = rows_of("resume", setting)
    assert rows["what"].tolist()[:2] == ["again", "resumed"]
    assert rows["from"][1] == "model_0000003.pth"  # the second half is trained after it
    if setting.on_gpu:
        assert (rows["off"] < 0.01).all()
    else:
        assert rows["same_bits"].all() and (rows["off"] == 0).all()


@pytest.mark.slow
def test_ranks_train_what_one_process_does(setting, monkeypatch):
    threads = torch.get_num_threads()
    if not setting.on_gpu:  # forked, ranks start at once; OpenMP's threads do not survive that
        monkeypatch.setattr(launch, "CONTEXT", multiprocessing.get_context("fork"))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
    rows = rows_of("nccl", setting).set_index("what")
    torch.set_num_threads(threads)
    assert rows.index[0].startswith("1 rank") and len(rows) > 1
    assert (rows["off"] < 1e-3).all(), rows["off"]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["step", "r101", "profile", "options"])
def test_a_timing_has_a_number_in_every_row(part, setting):
    rows = rows_of(part, setting)
    names = {"step": "variant", "r101": "variant"}.get(part, "what")
    assert rows[names].nunique() > 2
    timed = rows[~rows["what"].str.contains("loader|wait")] if "what" in rows else rows
    assert (timed["ms"] > 0).all()


def test_waits_are_counted_by_our_nearest_line():
    root = Path(opmask.__file__).parents[1]
    source = "import warnings\ndef wait():\n    warnings.warn('called a synchronizing operation')"
    ours: dict = {}
    exec(compile(source, str(root / "opmask/model/some.py"), "exec"), ours)
    torchs = {"wait": ours["wait"]}
    exec(compile("def call():\n    wait()", "/x/site-packages/torch/nn.py", "exec"), torchs)

    def act() -> None:
        ours["wait"]()
        torchs["call"]()
        warnings.warn("a synchronizing operation of others", stacklevel=1)

    line = act.__code__.co_firstlineno + 3
    assert waits(act, on_gpu=False) == {"opmask/model/some.py:3": 2, f"tests/test_gpu.py:{line}": 1}


def test_distance_is_relative():
    assert relative(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0])) == pytest.approx(0.2)


WRITES = "open({path!r}, 'w').write('what,error\\nfirst,\\nsecond,too little memory\\n');"
FATES = {
    "machine": WRITES,
    "parity": WRITES + "print('what went wrong'); exit(3)",
    "inference": WRITES + "import time; print('hangs', flush=True); time.sleep(600)",
    "resume": "",
}


@pytest.mark.slow
def test_a_part_that_fails_or_hangs_takes_no_other_with_it(tmp_path, monkeypatch, capsys):
    def fake(part: str, _device: str, _scale: str, folder: Path) -> list[str]:
        return [sys.executable, "-c", FATES[part].format(path=str(folder / f"{part}.csv"))]

    monkeypatch.setattr(command, "command_of", fake)
    monkeypatch.setitem(PARTS, "inference", PARTS["inference"]._replace(seconds=0.3))
    monkeypatch.setattr(command, "LEAST", 0.1)
    with pytest.raises(SystemExit) as stopped:
        command_line.run(["gpu", "--device", "cpu", "--parts", *FATES, "--out", str(tmp_path)])
    assert stopped.value.code == 1
    summary = pd.read_csv(tmp_path / "summary.csv").set_index("part")
    assert summary["outcome"].tolist() == ["done", "failed (3)", "out of time (3 s)", "done"]
    assert summary["rows"].tolist() == [2, 2, 2, 0]
    assert summary["errors"].tolist() == [1, 1, 1, 0]
    assert "what went wrong" in capsys.readouterr().out
    assert (tmp_path / "inference.log").read_text() == "hangs\n"


def test_what_the_budget_does_not_allow_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "command_of", lambda *_: [sys.executable, "-c", ""])
    arguments = ["--device", "cpu", "--budget", "0.2", "--parts", "step", "--out", str(tmp_path)]
    with pytest.raises(SystemExit):
        command_line.run(["gpu", *arguments])
    assert pd.read_csv(tmp_path / "summary.csv")["outcome"].tolist() == ["no time left"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_gpu_it_says_so(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.run(["gpu", "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "--device: torch finds no GPU; --device cpu rehearses" in capsys.readouterr().err
