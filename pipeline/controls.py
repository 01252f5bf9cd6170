"""Stage `controls`: why does it work? The gain of each control over the baseline.

Reads `reports/<scale>/tables/contrasts.csv`; writes `reports/<scale>/figures/controls.csv`, `.png`
and `.svg`.
"""

from pipeline.reporting import Scale, report_stage
from study.analysis.controls import controls_table
from study.figures import style
from study.figures.controls import draw
from study.report.inputs import read_csv


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    table = controls_table(read_csv(scale.paths.tables / "contrasts.csv")).round(4)
    style.save(draw(table), scale.paths.figures, "controls")
    table.to_csv(scale.paths.figures / "controls.csv", index=False)


if __name__ == "__main__":
    run()
