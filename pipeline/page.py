"""Stage `page`: `reports/<scale>/index.html`, everything in one file.

Reads `reports/<scale>/{claims.csv,tables,figures}` and, of each training run,
`runs/<scale>/train/<run>/{provenance.json,losses}`; and `runs/<scale>/splits.json`.
"""

import argparse
from collections.abc import Sequence

from pipeline import stage
from study.report.html_page import html_page
from study.report.inputs import read_inputs
from study.spec.params import load_params
from study.spec.paths import Paths
from study.spec.run import all_runs


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.page", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    paths = Paths.of(params)
    page = html_page(read_inputs(paths, str(params["schedule"]), all_runs(params)))
    paths.reports.mkdir(parents=True, exist_ok=True)
    (paths.reports / "index.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run()
