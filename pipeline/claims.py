"""Stage `claims`: every checkable sentence of the paper, graded on the tables of this scale.

Reads `reports/<scale>/tables/*.csv` and `reports/<scale>/figures/*.csv`; writes
`reports/<scale>/claims.csv` and `claims.md`.
"""

import argparse
from collections.abc import Sequence

from pipeline import stage
from study.claims.ledger import grade, ledger_table
from study.claims.sources import Tables
from study.report.views.claims import claims_page
from study.spec.params import load_params
from study.spec.paths import Paths


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.claims", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    paths = Paths.of(params)
    folder = paths.reports
    graded = grade(Tables(folder, str(params["schedule"])))
    folder.mkdir(parents=True, exist_ok=True)
    ledger = ledger_table(graded).round(4)
    ledger.to_csv(folder / "claims.csv", index=False)
    (folder / "claims.md").write_text(claims_page(graded, ledger, paths.scale), encoding="utf-8")


if __name__ == "__main__":
    run()
