"""Stage `regression`: mask AP of novel classes on class overlap, Figure 3 (paper, section 4.2).

Reads `runs/<scale>/overlap.csv` and `runs/<scale>/evaluate/`; writes to `reports/<scale>/`
`tables/regression.csv`, `tables/regression_readings.csv` and `tables/regression.md`, and
`figures/figure3.png`, `.svg` and its points, `.csv`.
"""

import argparse
from collections.abc import Sequence

from pipeline import stage
from study.analysis import overlap
from study.analysis.class_points import class_points, largest_relative
from study.analysis.regression import regress, regress_readings
from study.figures.figure3 import figure3
from study.figures.style import save
from study.report.render import write_page
from study.report.views import regression as view
from study.spec.params import load_params
from study.spec.paths import Paths
from study.spec.results import read_per_class
from study.spec.run import all_runs


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.regression", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    paths = Paths.of(params)
    reading = params["overlap"]["reading"]
    tables, figures = paths.tables, paths.figures
    for folder in (tables, figures):
        folder.mkdir(parents=True, exist_ok=True)

    runs = [one for one in all_runs(params) if one.schedule == str(params["schedule"])]
    per_class = read_per_class(paths.runs, runs)
    overlaps = overlap.load(paths.overlap)
    points = class_points(per_class, overlaps, reading)
    table = regress(points, **params["bootstrap"])
    readings = regress_readings(per_class, overlaps)

    # significant digits: p-values and slopes lie far apart
    table.to_csv(tables / "regression.csv", index=False, float_format="%.6g")
    readings.to_csv(tables / "regression_readings.csv", index=False, float_format="%.6g")
    blocks = view.blocks(table, readings, points, overlaps, reading=reading, scale=paths.scale)
    write_page(tables / "regression.md", "Class overlap and mask AP (Figure 3)", blocks)
    points["labelled"] = points.index.isin(largest_relative(points).index)
    points.to_csv(figures / "figure3.csv", index=False, float_format="%.6g")
    save(figure3(points, table, reading), figures, "figure3")


if __name__ == "__main__":
    run()
