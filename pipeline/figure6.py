"""Stage `figure6`: AP against the number of classes with masks in training (section 4.3).

Reads `runs/<scale>/evaluate/`; writes `reports/<scale>/figures/figure6.csv`, `.png` and `.svg`.
"""

import argparse
from collections.abc import Sequence

from pipeline import stage
from study.analysis.resampling import Resampler
from study.figures import style
from study.figures.figure6 import draw, figure6_table
from study.spec.params import load_params
from study.spec.paths import Paths
from study.spec.results import read_per_class
from study.spec.run import all_runs


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.figure6", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    paths = Paths.of(params)
    runs = [one for one in all_runs(params) if one.schedule == str(params["schedule"])]
    per_class = read_per_class(paths.runs, runs)
    resampler = Resampler(paths.evaluate, per_class, **params["bootstrap"])
    table = figure6_table(resampler).round(4)
    style.save(draw(table), paths.figures, "figure6")
    table.to_csv(paths.figures / "figure6.csv", index=False)


if __name__ == "__main__":
    run()
