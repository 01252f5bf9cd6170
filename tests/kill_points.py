"""Kills a tiny training, publication, evaluation and DVC's record at each of their writes.

`python tests/kill_points.py [--every N] [--fault kill full limit]` goes through all points, about a
thousand, or every N-th; `test_kill_points.py` takes some. A point is a file opened for writing, a
rename, a removal, a new folder, an fsync or half of a `torch.save`. The process dies there by
SIGKILL, or finds the disk full from there on; the same command is then repeated, and must end with
the undisturbed results, having trained nothing anew that a checkpoint holds.

Each run is a fork of a server that has imported torch, detectron2 and DVC, and does nothing else (a
fork of this process would inherit the locks that its threads hold). DVC's stages are called in the
fork instead of being started, so that DVC's own writes are points, too.
"""

import argparse
import errno
import io
import json
import multiprocessing
import multiprocessing.forkserver
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import dvc.repo  # noqa: E402, I001
import dvc.stage.run  # noqa: E402
import torch  # noqa: E402
from tensorboard.backend.event_processing.event_accumulator import (  # noqa: E402
    EventAccumulator,
)
from tiny import OVERRIDES, write_images  # noqa: E402

import opmask  # noqa: E402, F401  before detectron2
from opmask.errors import UserError, main  # noqa: E402
from opmask.evaluation import inference  # noqa: E402, F401
from study.runs.dvc_files import mend_run_cache  # noqa: E402
from study.runs import train_all  # noqa: E402
from study.runs.store import adopt_all  # noqa: E402
from study.spec.paths import Paths  # noqa: E402
from study.spec.run import all_runs, specification  # noqa: E402
from study.runs import jobs, provenance  # noqa: E402, F401
from study.runs.side_by_side import Task  # noqa: E402
from opmask.training import trainer  # noqa: E402, F401
from pipeline import evaluate, train  # noqa: E402
from parameters import write_params  # noqa: E402
from study.spec.params import load_params  # noqa: E402

KEY = "opmask-R50-round-0"
ITERATIONS = 2
LIMITS = [int(8192 * 1.35**n) for n in range(18)]  # bytes; the largest file has about 1.4 million
DEADLINE = 300  # seconds for a fork, which takes about two
FAILED, STAGE_FAILED = 3, 4  # exit codes of a fork: a bug, and a stage that ended with an error
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
AUDITED = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink")
REMOVING = ("os.remove", "os.rmdir")


def write_project(folder: Path) -> None:
    """A project of one run of two iterations, its data made and planned, with DVC in it."""
    params = load_params(ROOT / "params.yaml")
    params |= {"scale": "smoke", "schedule": "130k", "seeds": [0], "runs": ["opmask-R50-round"]}
    params["splits"] = {"round": ["disc", "dot"]}
    params["backbones"]["R50"] = {"resnet": 50, "weights": "none"}
    scale = params["scales"]["smoke"]
    config = {k: v for k, v in OVERRIDES.items() if k not in ("MODEL.WEIGHTS", "MODEL.DEVICE")}
    del config["SOLVER.CHECKPOINT_PERIOD"]
    scale |= {"schedule_factor": ITERATIONS / 130000, "checkpoint_period": 1, "warm_start": {}}
    params["scales"] = {"smoke": scale}
    scale |= {"precision": "fp32", "config": {**config, "TEST.DETECTIONS_PER_IMAGE": 5}}
    params["hardware"] |= {"gpus": 0, "side_by_side": 1}
    write_params(params, folder)
    plan, data = folder / "runs/smoke/plan", folder / "data/smoke"
    plan.mkdir(parents=True)
    (plan / f"{KEY}.yaml").write_text(yaml.safe_dump(specification(all_runs(params)[0], params)))
    write_images(data, count=3)
    categories = json.loads((data / "instances.json").read_text())["categories"]
    part = {"annotations": "instances.json", "images": ".", "counts": {"images": 3}}
    manifest = {"kind": "coco", "categories": categories, "root": "."}
    (data / "manifest.json").write_text(json.dumps({**manifest, "train": part, "val": part}))
    (folder / "dvc.yaml").write_text(yaml.safe_dump(stages(folder)))


def stages(folder: Path) -> dict:
    """The repository's own stages `train` and `evaluate`, as far as this project has what they
    depend on, and one that links its results to the store's again, as `report` does.
    """
    real = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    ours = ("runs/${scale}/plan", "runs/${scale}/train", "data/${scale}/manifest.json")
    found = {
        name: real[name] | {"deps": [dep for dep in real[name]["deps"] if dep.startswith(ours)]}
        for name in ("train", "evaluate")
    }
    found["report"] = {"cmd": "report", "deps": ["runs/smoke/evaluate"], "outs": ["done"]}
    return {"stages": found}


def run_stage(_executable: str, command: str, **_kwargs: object) -> None:
    """In place of DVC's starting a process: the stage, in this one. Says how it failed."""
    try:
        main(lambda _: call_stage(command))([])
    except SystemExit as ending:
        print(f"stage ended: {ending.code}", flush=True)
        raise
    except BaseException:
        print("stage broke", flush=True)
        raise


def call_stage(command: str) -> None:
    adopt_all(Paths("smoke"))  # as `inputs` does before any other stage
    if command == "report":
        Path("done").write_text("done")
    else:
        train_all.run_side_by_side = in_this_process
        {"train": train, "evaluate": evaluate}[command.split()[2].split(".")[1]].run([])


def in_this_process(tasks: Sequence[Task], *_args: object, **_kwargs: object) -> None:
    """In place of processes of their own, whose writes would not be seen."""
    for task in tasks:
        task.call()


def enter(folder: Path) -> None:
    """Work in `folder`, with DVC's settings and caches there as well."""
    os.chdir(folder)
    torch.set_num_threads(1)
    os.environ |= {"DVC_NO_ANALYTICS": "1", "TQDM_DISABLE": "1"}
    os.environ["DVC_SITE_CACHE_DIR"] = str(folder / ".dvc/site")
    os.environ["DVC_GLOBAL_CONFIG_DIR"] = str(folder / ".dvc/global")


def initialise(folder: Path) -> None:
    """`dvc init --no-scm` in `folder`."""
    enter(folder)
    dvc.repo.Repo.init(no_scm=True)


def reproduce(folder: Path) -> None:
    """`dvc repro` in `folder`."""
    enter(folder)
    dvc.stage.run._run = run_stage
    mend_run_cache()  # what a stage that always runs does first
    with dvc.repo.Repo() as repo:
        repo.reproduce()


@dataclass
class Fault:
    """What happens at write number `point` of a run: "kill", or "full" from there on.

    Or "limit": the system lets no file grow beyond `point` bytes.
    """

    kind: str = ""
    point: int = -1
    seen: int = 0

    def event(self, name: str) -> None:
        self.seen += 1
        if self.kind == "kill" and self.seen == self.point:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "full" and self.seen >= self.point and name not in REMOVING:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def end(self) -> None:
        self.kind = ""
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

    def install(self, folder: Path) -> None:
        """Watch everything that this process writes in `folder` from now on."""
        if self.kind == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.point, resource.RLIM_INFINITY))

        def hook(name: str, arguments: tuple) -> None:
            reading = name == "open" and not (arguments[2] or 0) & WRITING
            if reading or name not in AUDITED:
                return
            path = arguments[1] if name == "os.rename" else arguments[0]
            if isinstance(path, bytes):
                path = os.fsdecode(path)
            if isinstance(path, (str, os.PathLike)):
                absolute = os.path.abspath(path)
                if absolute.startswith(str(folder)) and "/.dvc/site" not in absolute:
                    self.event(name)

        fsync, save = os.fsync, torch.save

        def watched_fsync(descriptor: int) -> None:
            self.event("fsync")
            fsync(descriptor)

        def watched_save(content: object, target: object) -> None:
            if not hasattr(target, "write"):
                self.event("save")
                return save(content, target)
            whole = io.BytesIO()
            save(content, whole)
            data = whole.getvalue()
            target.write(data[: len(data) // 2])
            target.flush()
            self.event("save")
            target.write(data[len(data) // 2 :])
            return None

        os.fsync, torch.save = watched_fsync, watched_save
        sys.addaudithook(hook)


@dataclass
class Outcome:
    """How a fork ended: its exit code (negative: signal), its writes, what it trained and said."""

    code: int
    writes: int
    trained: int
    modules: list[str]
    text: str


def in_fork(task: Callable[[], None], folder: Path, fault: Fault | None = None) -> Outcome:
    """Run `task` in a fork of this process with `fault` in its writes to `folder`."""
    log = folder.with_suffix(".log")
    counts = folder.with_suffix(".counts")
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_child, args=(task, folder, fault or Fault(), log, counts))
    process.start()
    process.join(DEADLINE)
    if process.is_alive():
        os.kill(process.pid, signal.SIGABRT)  # which no trial takes for right
        process.join()
    code = process.exitcode
    about = json.loads(counts.read_text()) if counts.exists() else (0, 0, [])
    counts.unlink(missing_ok=True)
    return Outcome(code, *about, log.read_text())


def serve(modules: list[str]) -> None:
    """Start the server anew, with `modules` imported once and not in each fork."""
    multiprocessing.forkserver._forkserver._stop()
    multiprocessing.set_forkserver_preload(modules)
    before = dict(os.environ)
    places = [str(ROOT), str(ROOT / "tests"), before.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _child(task: Callable, folder: Path, fault: Fault, log: Path, counts: Path) -> None:
    code = FAILED
    trained = Counter()
    try:
        with log.open("w") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
        step = trainer.SeedEveryIteration.before_step

        def counted(hook) -> None:
            trained["iterations"] += 1
            step(hook)

        trainer.SeedEveryIteration.before_step = counted
        fault.install(folder)
        task()
        code = 0
    except SystemExit as ending:
        code = STAGE_FAILED if ending.code else 0
    except UserError:
        code = STAGE_FAILED
    except BaseException:
        traceback.print_exc()
    try:
        fault.end()
        counts.write_text(json.dumps([fault.seen, trained["iterations"], list(sys.modules)]))
    finally:
        os._exit(code)


def results(folder: Path) -> dict[str, object]:
    """All that training and evaluation published, times left out."""
    found: dict[str, object] = {}
    for path in sorted(folder.glob("runs/smoke/[te]*/**/*")):
        name = path.relative_to(folder).as_posix()
        if path.name in ("provenance.json", "SHA256SUMS") or path.is_dir():
            continue
        if path.name.startswith(".") and path.suffix == ".tmp":
            continue  # DVC leaves it when it is killed while it links a file; nothing reads it
        if path.name.startswith("events.out"):
            events = EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()
            found["tensorboard"] = {
                tag: [(e.step, 0 if "time" in tag else e.value) for e in events.Scalars(tag)]
                for tag in events.Tags()["scalars"]
            }
        elif name.endswith(f"train/{KEY}/metrics.json"):
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{k: 0 if "time" in k else v for k, v in row.items()} for row in rows]
        else:
            found[name] = path.read_bytes()
    return found


def saved(folder: Path) -> int:
    """Iterations that need not be trained again, by what lies in work/ or was published."""
    if list(folder.glob("work/*/model_final.pth")) or list(folder.glob("work/*/published")):
        return ITERATIONS
    if list(folder.glob(f"runs/smoke/train/{KEY}/model_final.pth")):
        return ITERATIONS
    numbers = [int(path.stem.removeprefix("model_")) for path in folder.glob("work/*/model_0*.pth")]
    return max(numbers, default=-1) + 1


def left_over(folder: Path) -> list[str]:
    """What lies in work/ beside the finished run, its lock and its measurement."""
    kept = [*folder.glob("work/smoke-*/published"), *folder.glob("work/smoke-*/lock0")]
    found = [*folder.glob("work/*-*/*"), *folder.glob("work/.removed*")]
    return [path.name for path in found if path not in kept]


class Harness:
    """The template of the project and its undisturbed results."""

    def __init__(self, root: Path):
        self.root, self.template = root, root / "template"
        self.template.mkdir(parents=True)
        write_project(self.template)
        serve(["kill_points"])
        done = in_fork(partial(initialise, self.template), self.template)
        assert done.code == 0, done.text
        whole = self.copy("whole")
        done = in_fork(partial(reproduce, whole), whole)
        assert done.code == 0, done.text
        assert done.trained == ITERATIONS
        ours = ("torch", "detectron2", "dvc", "opmask", "study", "pipeline", "pandas", "hotcoco")
        serve(["kill_points", *(m for m in done.modules if m.startswith(ours))])
        self.writes, self.expected = done.writes, results(whole)
        assert left_over(whole) == [], "the work folder is cleared at the end"

    def copy(self, name: str) -> Path:
        folder = self.root / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.template, folder)
        return folder

    def trial(self, kind: str, point: int) -> str:
        """What went wrong at `point`, "" if nothing did."""
        folder = self.copy(f"{kind}-{point}")
        first = in_fork(partial(reproduce, folder), folder, Fault(kind, point))
        trouble = self._first(kind, first)
        had = saved(folder)
        again = in_fork(partial(reproduce, folder), folder)
        if again.code:
            trouble = f"stuck: {again.text[-3000:]}"
        elif again.trained > ITERATIONS - had:
            trouble = f"lost: {had} iterations were saved, {again.trained} were trained again"
        elif not trouble:
            found = results(folder)
            names = found.keys() | self.expected.keys()
            other = [n for n in names if found.get(n) != self.expected.get(n)]
            left = left_over(folder)
            trouble = f"different: {other}" if other else f"left over: {left}" if left else ""
        shutil.rmtree(folder)
        return trouble

    @staticmethod
    def _first(kind: str, first: Outcome) -> str:
        if kind == "kill":
            return "" if first.code in (0, -signal.SIGKILL) else f"not killed: {first.text[-2000:]}"
        if "stage broke" in first.text:
            return f"a traceback: {first.text[-3000:]}"
        lines = [line for line in first.text.splitlines() if line.startswith("error: ")]
        if len(lines) != first.text.count("stage ended: 2"):
            return f"no single error: {first.text[-2000:]}"
        return ""  # of DVC's own trouble with the disk it tells in its own words


def go_through() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="every so many-th point")
    parser.add_argument("--sample", type=int, help="so many points of each fault, evenly spread")
    faults = ("kill", "full", "limit")
    parser.add_argument("--fault", choices=faults, nargs="+", default=["kill"])
    arguments = parser.parse_args()
    wrong = False
    with tempfile.TemporaryDirectory() as root:
        harness = Harness(Path(root, "trials"))
        print(f"{harness.writes} points", flush=True)
        for fault in arguments.fault:
            points = LIMITS if fault == "limit" else range(1, harness.writes + 1)
            every = arguments.every if fault != "limit" else 1
            if arguments.sample:
                every = -(-len(points) // arguments.sample)
            points = points[every // 2 :: every]
            found: Counter[str] = Counter()
            for point in points:
                trouble = harness.trial(fault, point)
                found[trouble.split(":")[0] or "right"] += 1
                if trouble:
                    print(f"{fault} {point}: {trouble}", flush=True)
            print(f"{fault}: {len(points)} points, {dict(found)}", flush=True)
            wrong |= bool(set(found) - {"right"})
    sys.exit(wrong)


if __name__ == "__main__":
    go_through()
