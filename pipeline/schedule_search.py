"""Stage `schedule_search`: which iteration section 4.5's search keeps, and whether it overfits.

Reads what stage `search` measured; writes `schedule_search`, a table in `reports/<scale>/tables/`
and a figure in `reports/<scale>/figures/`.
"""

from opmask.data.coco import load_manifest
from pipeline.reporting import Scale, report_stage
from study.analysis.held_out import class_groups, read_curves
from study.analysis.search import search_table
from study.figures import search as figure
from study.figures import style
from study.report.render import write_table
from study.report.views import schedule_search as view


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    params, paths = scale.params, scale.paths
    manifest = load_manifest(paths.manifest)
    factor = params["scales"][paths.scale]["schedule_factor"]
    curves = read_curves(paths.search, scale.runs)
    groups = {
        name: class_groups(name, manifest.categories, params["splits"])
        for name in curves["supervised"].unique()
    }
    table = search_table(paths.search, curves, groups, factor, **params["bootstrap"]).round(4)
    path = paths.tables / "schedule_search.csv"
    write_table(path, table, "Schedule search", view.blocks(table))
    data = figure.figure_data(curves, table, factor)
    style.save(figure.draw(data, params["schedules"], factor), paths.figures, "schedule_search")
    data.to_csv(paths.figures / "schedule_search.csv", index=False)


if __name__ == "__main__":
    run()
