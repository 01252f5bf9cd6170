"""Stage `report`: the pages a reader starts from.

Reads the ledger, tables and figures of `reports/<scale>/` and what the stages recorded; writes
`reports/<scale>/README.md` and `metrics.json` (DVC metrics), and
`reports/README.md`, which sets all scales with a `metrics.json` side by side.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from opmask.errors import UserError
from pipeline import stage, write_json
from study.report.inputs import read_all, read_csv
from study.report.overview import metrics, render_index
from study.report.report import Report, render
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
    scale = params["scale"]
    runs_dir, data_dir, folder = Path("runs") / scale, Path("data") / scale, REPORTS / scale
    runs = all_runs(params)
    table = _read_table(folder / "tables" / "table1.csv")
    warm_start = params["scales"][scale]["warm_start"]
    credits = data_dir / "CREDITS.txt"  # only the embedded data set has one
    per_class = read_per_class(runs_dir, runs)
    claims, tables = folder / "claims.csv", folder / "tables"
    contrasts, ambiguity = tables / "contrasts.csv", tables / "ambiguity.csv"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.*")}
    report = Report(
        scale=scale,
        schedule=str(params["schedule"]),
        table1=table,
        provenance=read_provenance(runs_dir, runs),
        manifest=read_json(data_dir / "manifest.json"),
        splits=read_json(runs_dir / "splits.json"),
        credits=credits.read_text(encoding="utf-8") if credits.is_file() else "",
        deepened={b: r["deepen"] for b, r in warm_start.items() if "deepen" in r},
        claims=read_csv(claims) if claims.is_file() else None,
        files=files | {"index.html"},  # stage `page` writes it
        figures=read_all(folder / "figures"),
        summary=summarise(per_class),
        contrasts=read_csv(contrasts) if contrasts.is_file() else None,
        ambiguity=read_csv(ambiguity) if ambiguity.is_file() else None,
    )
    write_json(folder / "metrics.json", metrics(table))
    (folder / "README.md").write_text(render(report), encoding="utf-8")
    by_scale = {path.parent.name: read_json(path) for path in REPORTS.glob("*/metrics.json")}
    (REPORTS / "README.md").write_text(render_index(by_scale), encoding="utf-8")


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the stage table1 first (dvc repro)")
    return pd.read_csv(path)


if __name__ == "__main__":
    run()
