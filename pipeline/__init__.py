"""Stages of the DVC pipeline: thin command lines over `opmask`, one module a stage."""

import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from opmask.errors import CommandLine, main
from opmask.integrity import write_durably
from study.runs.dvc_files import require_lock
from study.spec.code import require_recorded


def command(function: Callable[[Sequence[str]], None]) -> CommandLine:
    """Decorate a command's `function(argv)`: `opmask.errors.main`, where dvc.lock is whole.

    Raises:
        UserError: dvc.lock is empty or has conflicts; says what to do.
    """

    @main
    @functools.wraps(function)
    def run(argv: Sequence[str]) -> None:
        if not {"-h", "--help"} & set(argv):
            require_lock()
        function(argv)

    return run


def stage(
    function: Callable[[Sequence[str]], None],
) -> Callable[..., None]:
    """Decorate a stage's `function(argv)`: `command`, for code that DVC has on record.

    Raises:
        UserError: the code was edited since stage `code` ran, so that DVC would note down the
            result as the earlier code's.
    """

    @command
    @functools.wraps(function)
    def run(argv: Sequence[str]) -> None:
        spec = sys.modules[function.__module__].__spec__
        if spec is not None and not {"-h", "--help"} & set(argv):
            # its name, also where `python -m` makes it __main__
            require_recorded(spec.name.removeprefix("pipeline."))
        function(argv)

    return run


def write_json(path: Path, content: Any) -> None:
    """Writes `content` to `path` whole or not at all, creating folders as needed."""
    write_durably(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
