"""What the stages that make reports have in common: no arguments, and all they need of a scale."""

import argparse
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import stage
from study.spec.params import load_params
from study.spec.paths import Paths
from study.spec.run import Run, all_runs


@dataclass(frozen=True)
class Scale:
    """The scale of params.yaml: parameters, where its files lie, and all runs asked for."""

    params: Mapping[str, Any]
    paths: Paths
    runs: Sequence[Run]

    @property
    def schedule(self) -> str:
        """The global schedule."""
        return str(self.params["schedule"])

    @property
    def scheduled(self) -> list[Run]:
        """The runs of the global schedule."""
        return [one for one in self.runs if one.schedule == self.schedule]


def report_stage(function: Callable[[Scale], None]) -> Callable[..., None]:
    """Decorate a `pipeline.stage` without arguments; folders of tables and figures are there."""

    @stage
    @functools.wraps(function)
    def run(argv: Sequence[str]) -> None:
        module = sys.modules[function.__module__]
        name = module.__spec__.name if module.__spec__ else function.__module__
        argparse.ArgumentParser(prog=f"python -m {name}", description=module.__doc__).parse_args(
            argv
        )
        params = load_params()
        paths = Paths.of(params)
        for folder in (paths.tables, paths.figures):
            folder.mkdir(parents=True, exist_ok=True)
        function(Scale(params, paths, all_runs(params)))

    return run
