"""A process that holds one model and does, when asked, some steps of it.

Processes, because variants differ in their environment: threads, how memory is allocated. One
works at a time; requests and replies are lines of JSON.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from benchmarks.models import VARIANTS, Job
from benchmarks.session import Session
from opmask.training.hardware import KEEP_MEMORY


class Worker:
    """A model in a process of its own; a context that ends with it.

    Raises:
        RuntimeError: the process ended; its messages are on stderr.
    """

    def __init__(self, job: Job, threads: int):
        self.job = job
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.worker", json.dumps(asdict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(job, threads),
        )
        self.ask("ready")

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """The answer of `Session.<what>(**arguments)`, and `cpu_s`, processor time it took."""
        try:
            print(json.dumps([what, arguments]), file=self.process.stdin, flush=True)
            return json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError) as error:
            code = self.process.wait()
            raise RuntimeError(f"{self.job.variant}: process ended with {code}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.process.stdin.close()
        self.process.wait()


def _environment(job: Job, threads: int) -> Mapping[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in KEEP_MEMORY}
    memory = KEEP_MEMORY if VARIANTS[job.variant].tuned and job.device == "cpu" else {}
    return {**kept, "OMP_NUM_THREADS": str(threads), **memory}


def main() -> None:
    """Serve requests until there are no more."""
    replies, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not be an answer
    session = Session(Job(**json.loads(sys.argv[1])))
    for line in sys.stdin:
        what, arguments = json.loads(line)
        started = time.process_time()
        answer = getattr(session, what)(**arguments)
        answer |= {"cpu_s": time.process_time() - started}
        print(json.dumps(answer), file=replies, flush=True)


if __name__ == "__main__":
    main()
