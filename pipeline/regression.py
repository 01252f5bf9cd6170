"""Stage `regression`: mask AP of novel classes on class overlap, Figure 3 (paper, section 4.2).

Reads `runs/<scale>/overlap.csv` and `runs/<scale>/evaluate/`; writes to `reports/<scale>/`
`tables/regression.csv`, `tables/regression_readings.csv` and `tables/regression.md`, and
`figures/figure3.png`, `.svg` and its points, `.csv`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from opmask.analysis import overlap
from opmask.analysis.class_points import class_points, largest_relative
from opmask.analysis.regression import regress, regress_readings
from opmask.evaluation.results import read_per_class
from opmask.figures.figure3 import figure3
from opmask.figures.style import save
from opmask.planning.params import load_params
from opmask.planning.plan import all_runs
from opmask.reporting.regression_page import page
from pipeline import stage


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.regression", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    scale, schedule = params["scale"], str(params["schedule"])
    reading = params["overlap"]["reading"]
    runs_dir, reports = Path("runs") / scale, Path("reports") / scale
    tables, figures = reports / "tables", reports / "figures"
    for folder in (tables, figures):
        folder.mkdir(parents=True, exist_ok=True)

    runs = [one for one in all_runs(params) if one.schedule == schedule]
    per_class = read_per_class(runs_dir, runs)
    overlaps = overlap.load(runs_dir / "overlap.csv")
    points = class_points(per_class, overlaps, reading)
    table = regress(points, **params["bootstrap"])
    readings = regress_readings(per_class, overlaps)

    # significant digits: p-values and slopes lie far apart
    table.to_csv(tables / "regression.csv", index=False, float_format="%.6g")
    readings.to_csv(tables / "regression_readings.csv", index=False, float_format="%.6g")
    text = page(table, readings, points, overlaps, reading=reading, scale=scale)
    (tables / "regression.md").write_text(text, encoding="utf-8")
    points["labelled"] = points.index.isin(largest_relative(points).index)
    points.to_csv(figures / "figure3.csv", index=False, float_format="%.6g")
    save(figure3(points, table, reading), figures, "figure3")


if __name__ == "__main__":
    run()
