"""Stage `contrasts`: the gradient ablation (section 4.4), the seven-convolution control, R-101
against R-50 and every gain, of your own splits and backbones too, each with its intervals.

Reads `runs/<scale>/evaluate/`; writes `reports/<scale>/tables/contrasts.csv` and `contrasts.md`.
"""

from pipeline.reporting import Scale, report_stage
from study.analysis.contrasts import CONTRASTS, contrast_table, further_contrasts
from study.analysis.controls import control_contrasts
from study.analysis.oracle import Oracle
from study.analysis.resampling import Resampler
from study.analysis.rivals import rival_contrasts
from study.report.render import write_table
from study.report.views import contrasts as view
from study.spec.results import read_per_class


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    per_class = read_per_class(scale.paths.runs, scale.scheduled)
    resampler = Resampler(scale.paths.evaluate, per_class, **scale.params["bootstrap"])
    known = (*CONTRASTS, *control_contrasts(scale.scheduled))
    rivals = rival_contrasts(scale.scheduled, known)
    wanted = (*known, *further_contrasts(scale.scheduled, (*known, *rivals)), *rivals)
    # rounded once, so that every page that is written from it says the same
    table = contrast_table(resampler, wanted, Oracle(resampler)).round(4)
    path = scale.paths.tables / "contrasts.csv"
    write_table(path, table, "Contrasts between runs", view.blocks(table))


if __name__ == "__main__":
    run()
