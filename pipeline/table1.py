"""Stage `table1`: Table 1 of the paper, from the evaluated runs of the global schedule.

Reads `runs/<scale>/evaluate/`; writes `reports/<scale>/tables/table1.{csv,md,tex}`
and `per_class.csv`, of all runs.
"""

import argparse
from collections.abc import Sequence

from pipeline import stage
from study.analysis.resampling import Resampler
from study.report.render import write_page
from study.report.views import table1 as view
from study.spec.params import load_params
from study.spec.paths import Paths
from study.spec.results import read_per_class, summarise
from study.spec.run import all_runs
from study.tables.table1 import novel_gains, table1


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.table1", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    paths = Paths.of(params)
    runs = [one for one in all_runs(params) if one.schedule == str(params["schedule"])]
    per_class = read_per_class(paths.runs, runs)
    resampler = Resampler(paths.evaluate, per_class, **params["bootstrap"])
    gains = novel_gains(resampler, per_class["backbone"])
    # rounded once, so that every page that is written from it says the same
    table = table1(summarise(per_class), gains).round(4)
    folder = paths.tables
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "table1.csv", index=False)
    everything = read_per_class(paths.runs, all_runs(params))
    everything.round(2).to_csv(folder / "per_class.csv", index=False)
    write_page(folder / "table1.md", "Table 1", view.blocks(table, paths.scale))
    (folder / "table1.tex").write_text(view.tex(table, paths.scale), encoding="utf-8")


if __name__ == "__main__":
    run()
