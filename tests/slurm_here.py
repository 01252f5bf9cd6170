"""A Slurm cluster on this machine, of two nodes with a core each, for tests and for trying things.

`python tests/slurm_here.py COMMAND …` runs COMMAND where it is the cluster. Needs root, slurm-wlm
and munge, neither systemd nor cgroups.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

NODES = ("n1", "n2")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1
ReturnToService=2
SlurmdTimeout=5
MinJobAge=3600
KillWait=10
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 GraceTime=300
PartitionName=urgent Nodes=ALL PriorityTier=2
"""


def is_installed() -> bool:
    """Whether a cluster can be started here."""
    return os.getuid() == 0 and all(map(shutil.which, ("slurmctld", "slurmd", "munged")))


def answer(*command: str) -> list[str]:
    """The words that one of Slurm's commands says."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def until(condition, seconds=400):
    """What `condition` returns once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def ends_with_us(*command: object) -> list[str]:
    """`command`, to which the system sends SIGTERM when what starts it ends, even by SIGKILL."""
    return ["setpriv", "--pdeathsig", "TERM", *map(str, command)]


class Cluster:
    """A controller and two nodes, whose files lie in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.conf = folder, folder / "slurm.conf"
        self.daemons: dict[str, subprocess.Popen] = {}
        (folder / "state").mkdir()
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o400)
        host = socket.gethostname().split(".")[0]
        with ExitStack() as stack:  # free ports, held until all are found
            held = [stack.enter_context(socket.socket()) for _ in ("controller", *NODES)]
            for one in held:
                one.bind(("", 0))
            port, *ports = [one.getsockname()[1] for one in held]
        conf = CONF.format(host=host, folder=folder, port=port)
        for node, port in zip(NODES, ports, strict=True):
            conf += f"NodeName={node} NodeAddr=127.0.0.1 NodeHostname={host} Port={port} "
            conf += "CPUs=1 RealMemory=64000\n"
        self.conf.write_text(conf)

    def start(self) -> None:
        """Start all, and wait until both nodes are idle."""
        names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
        files = [f"--{name}={self.folder}/munge.{end}" for name, end in names.items()]
        self._start(
            "munge", "munged", "--foreground", "--force", f"--seed-file={self.folder}/seed", *files
        )
        until((self.folder / "munge.socket").exists, 30)
        self._start("slurmctld", "slurmctld", "-D", "-f", self.conf)
        for node in NODES:
            self.start_node(node)
        until(lambda: {*answer("sinfo", "-h", "-o", "%t")} == {"idle"}, 60)

    def start_node(self, node: str) -> None:
        self._start(node, "slurmd", "-D", "-f", self.conf, "-N", node)

    def kill_node(self, node: str, job: str) -> None:
        """As by a power cut: what Slurm has there, then what runs there."""
        self.daemons[node].kill()
        self.daemons[node].wait()
        ours = self._processes()
        steps = [p for p in ours if f"slurmstepd: [{job}." in " ".join(p.info["cmdline"] or ())]
        tasks = [p for p in ours if (p.info["environ"] or {}).get("SLURM_JOB_ID") == job]
        _kill([*steps, *tasks])

    def stop(self) -> None:
        """End all that is the cluster's, jobs and those who wait for them too."""
        while found := self._processes():
            _kill(found)

    def _start(self, name: str, *command: object) -> None:
        apart = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        apart["start_new_session"] = True  # from Ctrl-C
        self.daemons[name] = subprocess.Popen(ends_with_us(*command), **apart)

    def _processes(self) -> list[psutil.Process]:
        asked = psutil.process_iter(["cmdline", "environ", "open_files"])
        return [p for p in asked if p.pid != os.getpid() and self._is_ours(p.info)]

    def _is_ours(self, about: dict[str, Any]) -> bool:
        """A slurmstepd writes its title over its environment, but has the log of its node open."""
        files = [Path(one.path) for one in about["open_files"] or ()]
        conf = (about["environ"] or {}).get("SLURM_CONF")
        return conf == str(self.conf) or any(self.folder in path.parents for path in files)


def _kill(processes: list[psutil.Process]) -> None:
    for one in processes:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(processes)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster that this process and its children use; nothing of it is left at the end."""
    before, made = os.environ.get("SLURM_CONF"), Cluster(folder)
    os.environ["SLURM_CONF"] = str(made.conf)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        del os.environ["SLURM_CONF"]
        if before is not None:
            os.environ["SLURM_CONF"] = before


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder)):
        sys.exit(subprocess.run(ends_with_us(*sys.argv[1:])).returncode)
