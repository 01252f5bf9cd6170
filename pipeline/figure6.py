"""Stage `figure6`: AP against the number of classes with masks in training (section 4.3).

Reads `runs/<scale>/evaluate/`; writes `reports/<scale>/figures/figure6.csv`, `.png` and `.svg`.
"""

from pipeline.reporting import Scale, report_stage
from study.analysis.resampling import Resampler
from study.figures import style
from study.figures.figure6 import draw, figure6_table
from study.spec.results import read_per_class


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    per_class = read_per_class(scale.paths.runs, scale.scheduled)
    resampler = Resampler(scale.paths.evaluate, per_class, **scale.params["bootstrap"])
    table = figure6_table(resampler).round(4)
    style.save(draw(table), scale.paths.figures, "figure6")
    table.to_csv(scale.paths.figures / "figure6.csv", index=False)


if __name__ == "__main__":
    run()
