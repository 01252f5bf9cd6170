"""Stage `sweep`: trains the planned runs side by side where that is faster than one by one.

They wait in the work folder for their own stages, `train@…` and `evaluate@…`, which publish them.
"""

import argparse
from collections.abc import Sequence

from opmask.training.hardware import places_here
from pipeline import stage, write_json
from study.runs.dvc_records import DvcCache
from study.runs.sweep import Training, train_side_by_side
from study.runs.work import planned
from study.spec.params import load_params
from study.spec.paths import Paths
from study.spec.run import all_runs


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.sweep", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    paths = Paths.of(params)
    environments = places_here(params["hardware"])
    if len(environments) > 1:
        runs = [planned(run.key, params) for run in all_runs(params)]
        cache = DvcCache.here()
        trainings = [
            Training(run.key, run.specification["max_iter"], run.work, run.trunk)
            for run in runs
            if not run.is_published() and not cache.has_run(run)  # DVC restores those
        ]
        if len(trainings) > 1:
            train_side_by_side(trainings, environments, paths.logs)
    # Always the same content: what was trained here must not make a run's own stage out of date.
    write_json(paths.sweep, {"done": True})


if __name__ == "__main__":
    run()
