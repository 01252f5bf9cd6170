"""Stage `tables`: Tables 2 and 3 of the paper.

Reads `runs/<scale>/cam/` and `runs/<scale>/evaluate/`; writes
`reports/<scale>/tables/table{2,3}.{csv,md,tex}`.
"""

import argparse
from collections.abc import Sequence

from pipeline import stage
from study.report.render import write_page
from study.report.views import table2 as view2
from study.report.views import table3 as view3
from study.spec.params import load_params
from study.spec.paths import Paths
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
    paths, runs = Paths.of(params), all_runs(params)
    paths.tables.mkdir(parents=True, exist_ok=True)
    cam = read_cam(paths.cam, [one for one in runs if is_row(one, str(params["schedule"]))])
    opmask = read_per_class(paths.runs, [one for one in runs if one.method == "opmask"])
    # rounded once, so that every page that is written from it says the same
    second = table2(cam, paths.cam, **params["bootstrap"]).round(4)
    third = table3(opmask, paths.evaluate, **params["bootstrap"]).round(4)
    for number, table, view in ((2, second, view2), (3, third, view3)):
        path = paths.tables / f"table{number}.csv"
        table.to_csv(path, index=False)
        write_page(path.with_suffix(".md"), f"Table {number}", view.blocks(table, paths.scale))
        path.with_suffix(".tex").write_text(view.tex(table, paths.scale), encoding="utf-8")


if __name__ == "__main__":
    run()
