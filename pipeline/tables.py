"""Stage `tables`: Tables 2 and 3 of the paper.

Reads `runs/<scale>/cam/` and `runs/<scale>/evaluate/`; writes
`reports/<scale>/tables/table{2,3}.{csv,md,tex}`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipeline import stage
from study.report.render import write_page
from study.report.views import table2 as view2
from study.report.views import table3 as view3
from study.spec.params import load_params
from study.spec.results import read_per_class
from study.spec.run import all_runs
from study.tables.table2 import read_cam, table2
from study.tables.table2_rows import is_row
from study.tables.table3 import table3


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.tables", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    scale, schedule = params["scale"], str(params["schedule"])
    runs_dir, folder = Path("runs", scale), Path("reports", scale, "tables")
    folder.mkdir(parents=True, exist_ok=True)
    runs = all_runs(params)
    cam = read_cam(runs_dir / "cam", [one for one in runs if is_row(one, schedule)])
    opmask = read_per_class(runs_dir, [one for one in runs if one.method == "opmask"])
    # rounded once, so that every page that is written from it says the same
    second = table2(cam, runs_dir / "cam", **params["bootstrap"]).round(4)
    third = table3(opmask, runs_dir / "evaluate", **params["bootstrap"]).round(4)
    for number, table, view in ((2, second, view2), (3, third, view3)):
        path = folder / f"table{number}.csv"
        table.to_csv(path, index=False)
        write_page(path.with_suffix(".md"), f"Table {number}", view.blocks(table, scale))
        path.with_suffix(".tex").write_text(view.tex(table, scale), encoding="utf-8")


if __name__ == "__main__":
    run()
