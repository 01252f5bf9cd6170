"""Stage `report`: the pages a reader starts from.

Reads the ledger, tables and figures of `reports/<scale>/` and what the stages recorded; writes
`reports/<scale>/README.md`, and for DVC `metrics.json` and the plot `losses.csv`; and
`reports/README.md`, which sets all scales side by side.
"""

from dataclasses import replace

from opmask.errors import UserError
from pipeline import write_json
from pipeline.reporting import Scale, report_stage
from study.report.curves import loss_curves
from study.report.inputs import read_csv, read_inputs
from study.report.overview import metrics, render_index
from study.report.readme import readme
from study.runs.store import adopt_all
from study.spec.paths import LOSS_CURVES, METRICS, README
from study.spec.results import read_json, read_per_class, read_provenance, summarise

TABLE1 = "*/tables/table1.csv"  # of a scale, below `Paths.all_reports`


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    params, paths, runs = scale.params, scale.paths, scale.runs
    adopt_all(paths)  # DVC has recorded the stages that keep results, and made a copy of each link
    path = paths.tables / "table1.csv"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the stage table1 first (dvc repro)")
    warm_start = params["scales"][paths.scale]["warm_start"]
    credits = paths.data / "CREDITS.txt"  # only the embedded data set has one
    files = {str(path.relative_to(paths.reports)) for path in paths.reports.rglob("*.*")}
    inputs = replace(
        read_inputs(paths, scale.schedule, runs),
        files=files | {"index.html"},  # stage `page` writes it
        provenance=read_provenance(paths.runs, runs),
        summary=summarise(read_per_class(paths.runs, runs)),
        manifest=read_json(paths.manifest),
        credits=credits.read_text(encoding="utf-8") if credits.is_file() else "",
        deepened={b: r["deepen"] for b, r in warm_start.items() if "deepen" in r},
    )
    write_json(paths.reports / METRICS, metrics(inputs.tables["table1"]))
    loss_curves(inputs.trained).to_csv(paths.reports / LOSS_CURVES, index=False)
    (paths.reports / README).write_text(readme(inputs), encoding="utf-8")
    tables = {path.parts[-3]: read_csv(path) for path in paths.all_reports.glob(TABLE1)}
    (paths.all_reports / README).write_text(render_index(tables), encoding="utf-8")


if __name__ == "__main__":
    run()
