"""Stage `report`: the pages a reader starts from.

Reads the ledger, tables and figures of `reports/<scale>/` and what the stages recorded; writes
`reports/<scale>/{README.md,index.html}`, for DVC `metrics.json` and the plot `losses.csv`, and
`reports/README.md`, which sets all scales side by side. Prints the gains.
"""

from dataclasses import replace

from opmask.errors import UserError
from pipeline import write_json
from pipeline.reporting import Scale, report_stage
from study.report.command import command
from study.report.curves import loss_curves
from study.report.inputs import read_csv, read_experiments, read_inputs
from study.report.overview import metrics, render_index
from study.report.pages import html_page, readme
from study.report.views.summary import headline
from study.runs.store import adopt_all
from study.spec.paths import LOSS_CURVES, METRICS, README

TABLE1 = "*/tables/table1.csv"  # of a scale, below `Paths.all_reports`


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    params, paths = scale.params, scale.paths
    adopt_all(paths)  # DVC has recorded the stages that keep results, and made a copy of each link
    path = paths.tables / "table1.csv"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the stage table1 first (dvc repro)")
    warm_start = params["scales"][paths.scale]["warm_start"]
    inputs = read_inputs(paths, scale.schedule, scale.runs)
    inputs = replace(
        inputs,
        deepened={b: r["deepen"] for b, r in warm_start.items() if "deepen" in r},
        command=command(params, own_data=inputs.manifest.get("kind") == "coco"),
    )
    write_json(paths.reports / METRICS, metrics(inputs.tables["table1"]))
    loss_curves(inputs.trained).to_csv(paths.reports / LOSS_CURVES, index=False)
    (paths.reports / README).write_text(readme(inputs), encoding="utf-8")
    (paths.reports / "index.html").write_text(html_page(inputs), encoding="utf-8")
    tables = {path.parts[-3]: read_csv(path) for path in paths.all_reports.glob(TABLE1)}
    claims = {path.parts[-2]: read_csv(path) for path in paths.all_reports.glob("*/claims.csv")}
    index = render_index(tables, read_experiments(paths.all_reports), claims)
    (paths.all_reports / README).write_text(index, encoding="utf-8")
    for line in headline(inputs):
        print(line)
    print(f"Everything on one page: {paths.reports / 'index.html'}")


if __name__ == "__main__":
    run()
