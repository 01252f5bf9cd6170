"""Stage `schedule_search`: which iteration section 4.5's search keeps, and whether it overfits.

Reads what stage `search` measured; writes `schedule_search`, a table in `reports/<scale>/tables/`
and a figure in `reports/<scale>/figures/`.
"""

import argparse
from collections.abc import Sequence

from opmask.data.coco import load_manifest
from pipeline import stage
from study.analysis.held_out import class_groups, read_curves
from study.analysis.search import search_table
from study.figures import search as figure
from study.figures import style
from study.report.render import write_page
from study.report.views import schedule_search as view
from study.spec.params import load_params
from study.spec.paths import Paths
from study.spec.run import all_runs, schedules


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.schedule_search", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    paths = Paths.of(params)
    manifest = load_manifest(paths.manifest)
    factor = params["scales"][paths.scale]["schedule_factor"]
    curves = read_curves(paths.search, all_runs(params))
    groups = {
        name: class_groups(name, manifest.categories, params["splits"])
        for name in curves["supervised"].unique()
    }
    table = search_table(paths.search, curves, groups, factor, **params["bootstrap"]).round(4)
    paths.tables.mkdir(parents=True, exist_ok=True)
    table.to_csv(paths.tables / "schedule_search.csv", index=False)
    write_page(paths.tables / "schedule_search.md", "Schedule search", view.blocks(table))
    data = figure.figure_data(curves, table, factor)
    style.save(figure.draw(data, schedules(params), factor), paths.figures, "schedule_search")
    data.to_csv(paths.figures / "schedule_search.csv", index=False)


if __name__ == "__main__":
    run()
