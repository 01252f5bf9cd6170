"""Stage `page`: `reports/<scale>/index.html`, everything in one file.

Reads `reports/<scale>/{claims.csv,tables,figures}` and, of each training run,
`runs/<scale>/train/<run>/{provenance.json,losses}`; and `runs/<scale>/splits.json`.
"""

from pipeline.reporting import Scale, report_stage
from study.report.html_page import html_page
from study.report.inputs import read_inputs


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    page = html_page(read_inputs(scale.paths, scale.schedule, scale.runs))
    (scale.paths.reports / "index.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run()
