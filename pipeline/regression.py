"""Stage `regression`: mask AP of novel classes on class overlap, Figure 3 (paper, section 4.2).

Reads `runs/<scale>/overlap.csv` and `runs/<scale>/evaluate/`; writes to `reports/<scale>/`
`tables/regression.csv`, `tables/regression_readings.csv` and `tables/regression.md`, and
`figures/figure3.png`, `.svg` and its points, `.csv`.
"""

from pipeline.reporting import Scale, report_stage
from study.analysis import overlap
from study.analysis.class_points import class_points, largest_relative
from study.analysis.regression import regress, regress_readings
from study.figures.figure3 import figure3
from study.figures.style import save
from study.report.render import write_page
from study.report.views import regression as view
from study.spec.results import read_per_class


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    params, paths = scale.params, scale.paths
    tables, figures, reading = paths.tables, paths.figures, params["overlap"]["reading"]
    per_class = read_per_class(paths.runs, scale.scheduled)
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
