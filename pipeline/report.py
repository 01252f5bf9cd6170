"""Stage `report`: the pages a reader starts from.

Reads the ledger, tables and figures of `reports/<scale>/` and what the stages recorded; writes
`reports/<scale>/README.md` and `metrics.json` (DVC metrics), and
`reports/README.md`, which sets all scales with a `metrics.json` side by side.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from opmask.errors import UserError
from pipeline import stage, write_json
from study.report.inputs import read_inputs
from study.report.overview import metrics, render_index
from study.report.readme import readme
from study.runs.recorded import clear_recorded
from study.spec.params import load_params
from study.spec.results import read_json, read_per_class, read_provenance, summarise
from study.spec.run import all_runs

REPORTS = Path("reports")


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.report", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    clear_recorded(params)  # the last stages have been recorded by now
    scale, schedule = params["scale"], str(params["schedule"])
    runs_dir, data_dir, folder = Path("runs") / scale, Path("data") / scale, REPORTS / scale
    runs = all_runs(params)
    path = folder / "tables" / "table1.csv"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the stage table1 first (dvc repro)")
    warm_start = params["scales"][scale]["warm_start"]
    credits = data_dir / "CREDITS.txt"  # only the embedded data set has one
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.*")}
    inputs = replace(
        read_inputs(scale, schedule, runs, folder, runs_dir),
        files=files | {"index.html"},  # stage `page` writes it
        provenance=read_provenance(runs_dir, runs),
        summary=summarise(read_per_class(runs_dir, runs)),
        manifest=read_json(data_dir / "manifest.json"),
        credits=credits.read_text(encoding="utf-8") if credits.is_file() else "",
        deepened={b: r["deepen"] for b, r in warm_start.items() if "deepen" in r},
    )
    write_json(folder / "metrics.json", metrics(inputs.tables["table1"]))
    (folder / "README.md").write_text(readme(inputs), encoding="utf-8")
    by_scale = {path.parent.name: read_json(path) for path in REPORTS.glob("*/metrics.json")}
    (REPORTS / "README.md").write_text(render_index(by_scale), encoding="utf-8")


if __name__ == "__main__":
    run()
