"""Stage `claims`: every checkable sentence of the paper, graded on the tables of this scale.

Reads `reports/<scale>/tables/*.csv` and `reports/<scale>/figures/*.csv`, and for the noise between
trainings the files of those names in `reports/experiments/`; writes `reports/<scale>/claims.csv`
and `claims.md`.
"""

from pipeline.reporting import Scale, report_stage
from study.claims.conditions import Setting
from study.claims.ledger import grade, ledger_table
from study.claims.sources import Tables
from study.report.views.claims import claims_page
from study.spec.results import read_json


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    folder = scale.paths.reports
    setting = Setting.of(scale.params, read_json(scale.paths.manifest))
    graded = grade(Tables(folder, scale.schedule), setting=setting)
    ledger = ledger_table(graded).round(4)
    ledger.to_csv(folder / "claims.csv", index=False)
    page = claims_page(graded, ledger, scale.paths.scale)
    (folder / "claims.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run()
