"""Stage `tables`: Tables 2 and 3 of the paper.

Reads `runs/<scale>/cam/` and `runs/<scale>/evaluate/`; writes
`reports/<scale>/tables/table{2,3}.{csv,md,tex}` and `table2_maps.csv`, what Table 2 leaves open.
"""

from pipeline.reporting import Scale, report_stage
from study.report.render import write_table
from study.report.views import table2 as view2
from study.report.views import table2_maps as maps_view
from study.report.views import table3 as view3
from study.spec.results import read_per_class
from study.tables.table2 import read_cam, table2
from study.tables.table2_maps import table2_maps
from study.tables.table2_rows import is_row
from study.tables.table3 import table3


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    paths, bootstrap = scale.paths, scale.params["bootstrap"]
    rows = [one for one in scale.runs if is_row(one, scale.schedule)]
    cam = read_cam(paths.cam, rows)
    opmask = read_per_class(paths.runs, [one for one in scale.runs if one.method == "opmask"])
    # rounded once, so that every page that is written from it says the same
    second = table2(cam, paths.cam, **bootstrap).round(4)
    third = table3(opmask, paths.evaluate, **bootstrap).round(4)
    threshold = scale.params["cam"]["threshold"]
    maps = table2_maps(cam, paths.cam, rows, threshold, **bootstrap).round(4)
    maps.to_csv(paths.tables / "table2_maps.csv", index=False)
    more = {2: maps_view.blocks(maps), 3: []}
    for number, table, view in ((2, second, view2), (3, third, view3)):
        blocks, tex = view.blocks(table, paths.scale), view.tex(table, paths.scale)
        blocks = [*blocks, *more[number]]
        write_table(paths.tables / f"table{number}.csv", table, f"Table {number}", blocks, tex)


if __name__ == "__main__":
    run()
