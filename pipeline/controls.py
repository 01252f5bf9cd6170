"""Stage `controls`: why does it work? The gain of each control over the baseline.

Reads `reports/<scale>/tables/contrasts.csv` and, if no control is among its runs, those of
`reports/experiments/` at this scale; writes `reports/<scale>/figures/controls.csv`, `.png` and
`.svg`.
"""

from pipeline.reporting import Scale, report_stage
from study.analysis.controls import controls_table, with_controls
from study.figures import style
from study.figures.controls import draw
from study.report.inputs import read_csv, read_repeated


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    own = read_csv(scale.paths.tables / "contrasts.csv")
    frame, experiment = with_controls(own, read_repeated(scale.paths))
    table = controls_table(frame).round(4)
    if experiment:
        table = table.assign(experiment=experiment)
    style.save(draw(table), scale.paths.figures, "controls")
    table.to_csv(scale.paths.figures / "controls.csv", index=False)


if __name__ == "__main__":
    run()
