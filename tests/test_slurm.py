"""Runs as Slurm's jobs, on a real cluster of two nodes that the tests start on this machine."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import slurm_here
from parameters import PARAMS
from slurm_here import answer, until

from opmask.errors import UserError
from opmask.training.trunk import Trunk
from study.runs import slurm, train_all
from study.runs.side_by_side import Task
from study.runs.work import Planned
from study.spec.paths import PUBLISHED
from study.spec.schema import check_rules

ROOT = Path(__file__).parents[1]
ASKED = {**PARAMS["hardware"]["slurm"], "time": 60, "mem": "1G", "cpus_per_task": 1, "at_once": 2}
HARDWARE = {**PARAMS["hardware"], "launcher": "slurm", "gpus": 0, "slurm": ASKED}
LENGTH = 8  # iterations of a tiny training, a checkpoint every second
needs_slurm = pytest.mark.skipif(
    not slurm_here.is_installed(), reason="needs root, slurm-wlm and munge"
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with ExitStack() as stack:
        try:
            made = stack.enter_context(slurm_here.cluster(tmp_path_factory.mktemp("slurm")))
        except (AssertionError, OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"Slurm is installed, but its daemons do not start here: {error!r}")
        yield made


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working directory that jobs share, from which they find the tests' modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
    monkeypatch.setattr(slurm, "PERIOD", 0.3)
    return tmp_path


@pytest.fixture
def in_background(cluster, project):
    """Starts a process that submits and follows, as stage `train` does."""
    started = []

    def start(jobs, train, hardware="HARDWARE"):
        keys = [one.key for one in jobs]
        script = (
            "import test_slurm as t; from opmask.errors import main; from study.runs import slurm\n"
            "slurm.PERIOD = 0.3\n"
            f"jobs = [t.job(key) for key in {keys}]\n"
            f"main(lambda _: t.by_slurm(jobs, t.{hardware}, t.{train}))([])\n"
        )
        command = slurm_here.ends_with_us(sys.executable, "-c", script)
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
    subprocess.run(["scancel", "--me"])
    until(lambda: not answer("squeue", "--me", "-h", "-o", "%i"))


def job(key, iterations=LENGTH, trunk=None):
    work = Path("work", f"smoke-{key}-0123456789ab")
    spec = {"max_iter": iterations}
    return Planned(key, spec, None, "", work, Path(), trunk or Trunk(Path(), ()))


def by_slurm(jobs, hardware, train):
    folders = {one.key: one.work for one in jobs}
    run = partial(slurm.run_by_slurm, folders=folders, hardware=hardware)
    train_all.follow(jobs, train, run)


def submitted(key):
    """Numbers of this test's jobs that train `key`, also of those that have ended."""
    asked = answer(
        "squeue", "--me", "-h", "--states=all", f"--name={job(key).work.name}", "-o", "%i %Z"
    )
    return [
        n for n, folder in zip(asked[::2], asked[1::2], strict=True) if Path(folder) == Path.cwd()
    ]


def publish(work, *results):
    made = Path("work", work, "new")
    made.mkdir(parents=True)
    for name in results:
        shutil.copy(made.parent / name, made)
    made.rename(made.with_name(PUBLISHED))


# What jobs do; a job imports this module.


def train_tiny(key, work, hardware=HARDWARE):
    """A tiny training, the only thing here that needs torch."""
    from tiny import tiny_cfg, write_images

    import opmask  # noqa: F401  before detectron2
    from opmask.training import trainer
    from opmask.training.hardware import hardware_here

    folder = Path("images", str(os.getpid()))
    data = write_images(folder)
    cfg = tiny_cfg(LENGTH)
    cfg.SEED = ord(key)
    if "SLURM_NNODES" in os.environ:
        hardware = slurm.on_these_nodes(hardware, os.environ)
    here = hardware_here(hardware)
    trainer.train(cfg, data, Path("work", work), here, description=key)
    if here.machine_rank == 0:
        publish(work, "model_final.pth")


def train_and_wait(key, work):
    """`train_tiny` that waits at its first checkpoint, once, for what is to disturb it."""
    from opmask.training.hooks import PeriodicCheckpoints

    after_step, waits = PeriodicCheckpoints.after_step, Path(f"{key}.waits")

    def save_and_wait(hook):
        after_step(hook)
        if any(Path("work", work).glob("model_*.pth")) and not waits.exists():
            waits.touch()
            until(Path(f"{key}.disturbed").exists)

    PeriodicCheckpoints.after_step = save_and_wait
    train_tiny(key, work)


def wait_for_go(key, work):
    with Path(f"{key}.started").open("a") as file:
        file.write("started\n")
    until(Path("go").exists)
    publish(work)


def wait_with_a_child(key, work):
    """`wait_for_go` that says how its child has fared, and fails when it is told to stop."""
    with subprocess.Popen(["sleep", "400"]) as child:
        try:
            wait_for_go(key, work)
        except KeyboardInterrupt as error:
            Path(f"{key}.child").write_text(f"ended by {child.poll()}")
            raise RuntimeError("as where another process of it has died first") from error
        finally:
            child.kill()


def refuse(_key, _work):
    raise UserError("params.yaml: data_root: is missing")


def refuse_on_the_second_node(key, work):
    """Which the first, like a training, notices after a while."""
    if os.environ["SLURM_NODEID"] == "1":
        Path("refused").touch()
        refuse(key, work)
    until(Path("refused").exists)
    time.sleep(3)
    raise UserError("lost the others")


def weights(work):
    import torch

    return torch.load(Path("work", work, PUBLISHED, "model_final.pth"), weights_only=True)["model"]


def same(one, other):
    import torch

    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def finished(process, code=0):
    said = process.communicate()[1]
    assert process.returncode == code, said
    return said


def locally(keys, hardware="HARDWARE"):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    script = (
        f"import test_slurm as t; [t.train_tiny(k, f'local-{{k}}', t.{hardware}) for k in {keys!r}]"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


@needs_slurm
@pytest.mark.slow
def test_two_runs_one_whose_node_dies_and_one_out_of_time(cluster, in_background):
    """Both end with the bits of runs on this machine that nothing disturbed."""
    process = in_background([job("a"), job("b")], "train_and_wait")
    until(lambda: Path("a.waits").exists() and Path("b.waits").exists())
    (number,), (other,) = submitted("a"), submitted("b")
    (node,) = answer("squeue", "-h", "-j", number, "-o", "%N")
    cluster.kill_node(node, number)
    subprocess.run(["scancel", "--signal=USR2", other], check=True)
    Path("b.disturbed").touch()
    try:
        finished(process)
    finally:
        cluster.start_node(node)
    assert (submitted("a"), submitted("b")) == ([number], [other])  # not submitted again
    for one in (number, other):
        assert {"JobState=COMPLETED", "Restarts=1"} <= {*answer("scontrol", "show", "job", one)}
    locally("ab")
    assert all(same(job(one).work.name, f"local-{one}") for one in "ab")


@needs_slurm
@pytest.mark.slow
def test_two_nodes_train_one_run(in_background):
    """With the bits that two processes of one machine have."""
    finished(
        in_background([job("a")], "train_tiny", 'HARDWARE | {"slurm": t.ASKED | {"nodes": 2}}')
    )
    assert {path.name for path in job("a").work.glob("lock*")} == {"lock0", "lock1"}
    locally("a", 'HARDWARE | {"processes": 2}')
    assert same(job("a").work.name, "local-a")


@pytest.mark.slow
@needs_slurm
@pytest.mark.parametrize("out_of_time", [False, True])
def test_a_job_that_is_preempted_or_out_of_time_is_queued_again(out_of_time, in_background):
    process = in_background([job("a")], "wait_with_a_child")
    until(Path("a.started").exists)
    (queued,) = submitted("a")
    if out_of_time:
        subprocess.run(["scancel", "--signal=USR2", queued], check=True)
    else:
        subprocess.run(["srun", "--partition=urgent", "--nodes=2", "true"], check=True)
    until(lambda: Path("a.started").read_text().count("started") == 2)
    assert Path("a.child").read_text() == "ended by None"
    Path("go").touch()
    finished(process)
    assert submitted("a") == [queued]
    assert "Restarts=1" in answer("scontrol", "show", "job", queued)


@pytest.mark.slow
@needs_slurm
def test_a_cancelled_job_is_an_error_and_stays_cancelled(in_background):
    process = in_background([job("a"), job("b")], "wait_for_go")
    until(lambda: Path("a.started").exists() and Path("b.started").exists())
    (number,) = submitted("a")
    subprocess.run(["scancel", number], check=True)
    said = finished(process, code=2)
    assert f"error: a: job {number}: was cancelled (scancel); repeat dvc repro" in said
    assert "1 jobs go on in Slurm" in said
    assert answer("squeue", "-h", "-t", "all", "-j", number, "-o", "%T") == ["CANCELLED"]
    again = in_background([job("a"), job("b")], "wait_for_go")
    until(lambda: Path("a.started").read_text().count("started") == 2)
    Path("go").touch()
    finished(again)
    assert len(submitted("a")) == 2 and len(submitted("b")) == 1


@pytest.mark.slow
@needs_slurm
def test_a_user_error_is_given_as_it_is(cluster, project):
    with pytest.raises(UserError, match="^a: job .*: params.yaml: data_root: is missing .log: wo"):
        by_slurm([job("a")], HARDWARE, refuse)


@pytest.mark.slow
@needs_slurm
def test_an_error_on_one_of_two_nodes_ends_the_job(cluster, project):
    hardware = HARDWARE | {"slurm": ASKED | {"nodes": 2}}
    with pytest.raises(UserError, match=": lost the others; params.yaml: data_root: is missing "):
        by_slurm([job("a")], hardware, refuse_on_the_second_node)
    assert "Restarts=0" in answer("scontrol", "show", "job", *submitted("a"))


@needs_slurm
def test_what_slurm_refuses_is_said(cluster, project):
    hardware = {**HARDWARE, "slurm": {**ASKED, "partition": "none"}}
    with pytest.raises(UserError, match="hardware.slurm: a: .*invalid partition specified: none"):
        by_slurm([job("a")], hardware, refuse)


@pytest.mark.slow
@needs_slurm
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_parent_finds_its_jobs_again(number, in_background):
    process = in_background([job("a"), job("b")], "wait_for_go")
    until(lambda: Path("a.started").exists() and Path("b.started").exists())
    process.send_signal(number)
    said = finished(process, 130 if number == signal.SIGINT else -9)
    assert ("2 jobs go on in Slurm" in said) == (number == signal.SIGINT)
    again = in_background([job("a"), job("b"), job("c")], "wait_for_go")
    until(lambda: "2 runs have jobs in Slurm already" in again.stderr.readline())
    time.sleep(1)
    assert not submitted("c")  # two at once
    Path("go").touch()
    finished(again)
    assert [len(submitted(key)) for key in "abc"] == [1, 1, 1]
    assert [Path(f"{key}.started").read_text() for key in "abc"] == ["started\n"] * 3


# Without a cluster.


class Fake:
    """Slurm's commands, as far as they are asked for states: `states` by number."""

    def __init__(self, states):
        self.states = states
        self.submitted = []

    def submit(self, task, folder, hardware):
        self.submitted.append(task.name)
        number = str(len(self.submitted))
        if self.states[number] == "COMPLETED":
            publish(folder.name)
        return number

    def queue(self):
        return [(number, state, "x") for number, state in self.states.items() if state != "GONE"]


@pytest.fixture
def fake(project, monkeypatch):
    made = Fake({})
    monkeypatch.setattr(slurm, "PERIOD", 0.01)
    monkeypatch.setattr(slurm, "PATIENCE", 0.05)
    monkeypatch.setattr(slurm, "_submit", made.submit)
    monkeypatch.setattr(slurm, "_queue", made.queue)
    return made


@pytest.mark.parametrize("state", slurm.AGAIN)
def test_a_run_whose_job_slurm_ended_is_submitted_again(state, fake):
    fake.states = {"1": state, "2": "COMPLETED"}
    by_slurm([job("a")], HARDWARE, refuse)
    assert fake.submitted == ["a", "a"]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("TIMEOUT", "did not save before its time limit: params.yaml: hardware.slurm.time"),
        ("OUT_OF_MEMORY", "out of memory: params.yaml: hardware.slurm.mem"),
        ("FAILED", "a: job 1: ended .FAILED. .log: none"),
        ("GONE", "a: job 1: ended .None. .log: none"),
    ],
)
def test_a_job_that_failed_says_what_helps(state, said, fake):
    fake.states = {"1": state}
    with pytest.raises(UserError, match=said):
        by_slurm([job("a")], HARDWARE, refuse)
    assert fake.submitted == ["a"]


def test_a_controller_that_does_not_answer_is_asked_again(fake, monkeypatch, capsys):
    fake.states, answers = {"1": "COMPLETED"}, []

    def queue():
        answers.append(None)
        if len(answers) == 2:
            raise UserError("Slurm does not answer: restarting")
        return fake.queue()

    monkeypatch.setattr(slurm, "_queue", queue)
    by_slurm([job("a")], HARDWARE, refuse)
    assert len(answers) == 3 and "restarting; asked again" in capsys.readouterr().err


def test_a_run_waits_for_the_trunk_that_another_makes(fake):
    trunk = {"a": Trunk(Path("trunk"), (6, 10)), "b": Trunk(Path("trunk"), (6,))}
    Path("trunk").mkdir()
    fake.states = {"1": "RUNNING", "2": "COMPLETED"}
    seen = []

    def watch(waiting, running):
        seen.append([task.name for task in waiting])
        if len(seen) == 3:
            trunk["a"].checkpoint(6).touch()
        if not waiting and fake.states["1"] == "RUNNING":
            publish(jobs["a"].work.name)
            fake.states["1"] = "COMPLETED"

    jobs = {key: job(key, trunk=trunk[key]) for key in "ab"}
    slurm.run_by_slurm(
        [Task(key, partial(refuse, key, "")) for key in "ab"],
        folders={key: one.work for key, one in jobs.items()},
        hardware=HARDWARE,
        may_start=lambda task, running: (
            not any(jobs[task.name].waits_for(jobs[other.name]) for other in running)
        ),
        watch=watch,
    )
    assert seen[:3] == [["b"]] * 3 and fake.submitted == ["a", "b"]


def test_another_copy_of_the_project_has_its_own_jobs(project):
    name = job("a").work.name
    rows = [("6", "RUNNING", name), ("7", "PENDING", name), ("8", "FAILED", name)]
    assert slurm._find(job("a").work, rows) is None
    (job("a").work / "slurm").mkdir(parents=True)
    for number in "78":
        (job("a").work / f"slurm/{number}_submitted.pkl").touch()
    assert slurm._find(job("a").work, rows) == "7"
    assert slurm._find(job("b").work, rows) is None


def test_without_slurm_s_commands(project, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="launcher: slurm: there is no command squeue"):
        by_slurm([job("a")], HARDWARE, refuse)


def test_the_nodes_of_a_job_are_the_machines_of_a_run():
    environment = {
        "SLURM_NNODES": "2", "SLURM_NODEID": "1", "SLURM_JOB_ID": "40007",
        "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.5",
    }  # fmt: skip
    here = slurm.on_these_nodes(HARDWARE | {"slurm": {**ASKED, "gpus_per_node": 8}}, environment)
    assert (here["gpus"], here["machines"], here["machine_rank"]) == (8, 2, 1)
    assert here["dist_url"] == "tcp://10.0.0.5:20007"
    alone = slurm.on_these_nodes(
        HARDWARE, {**environment, "SLURM_NNODES": "1", "SLURM_NODEID": "0"}
    )
    assert (alone["machines"], alone["dist_url"]) == (1, "auto")


def test_machines_are_slurm_s_nodes():
    hardware = HARDWARE | {"machines": 2, "dist_url": "tcp://first:1"}
    with pytest.raises(UserError, match="hardware.machines: 2 is not 1; .* hardware.slurm.nodes"):
        check_rules(PARAMS | {"hardware": hardware})
    check_rules(PARAMS | {"hardware": HARDWARE})
