"""Stage `figure6`: AP against the number of classes with masks in training (section 4.3).

Reads `runs/<scale>/evaluate/`; writes `reports/<scale>/figures/figure6.csv`, `.png` and `.svg`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipeline import stage
from study.analysis.resampling import Resampler
from study.figures import style
from study.figures.figure6 import draw, figure6_table
from study.spec.params import load_params
from study.spec.results import read_per_class
from study.spec.run import all_runs


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.figure6", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    scale, schedule = params["scale"], str(params["schedule"])
    runs_dir, folder = Path("runs") / scale, Path("reports") / scale / "figures"
    runs = [one for one in all_runs(params) if one.schedule == schedule]
    per_class = read_per_class(runs_dir, runs)
    table = figure6_table(Resampler(runs_dir / "evaluate", per_class, **params["bootstrap"])).round(
        4
    )
    style.save(draw(table), folder, "figure6")
    table.to_csv(folder / "figure6.csv", index=False)


if __name__ == "__main__":
    run()
