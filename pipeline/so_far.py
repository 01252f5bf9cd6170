"""Table 1 of the runs of suite `headline` that are trained: its gains, and `work/table1.md`.

No stage: `train` calls it when these runs are done and others are left. What it evaluates, stage
`evaluate` need not.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline import command
from pipeline.evaluate import measurement
from study.analysis.comparison import comparisons
from study.analysis.resampling import Resampler
from study.report import sentences
from study.report.render import write_page
from study.report.views import table1 as view
from study.runs.measured import collect
from study.runs.store import measurements, trainings
from study.runs.work import planned
from study.spec.params import load_params
from study.spec.paths import Paths
from study.spec.results import read_per_class, summarise
from study.spec.run import headline_runs
from study.tables.table1 import novel_gains, table1


@command
def run(argv: Sequence[str]) -> None:
    """Evaluate, write and print."""
    argparse.ArgumentParser(prog="python -m pipeline.so_far", description=__doc__).parse_args(argv)
    params = load_params()
    paths, store = Paths.of(params), trainings(Paths.of(params))
    names = {one: planned(one.key, params).work.name for one in headline_runs(params)}
    done = {one: store.folder(name) for one, name in names.items() if store.has(name)}
    wanted = [measurement(one.key, params, folder) for one, folder in done.items()]
    with tempfile.TemporaryDirectory(dir=paths.work) as folder:
        out = Path(folder, "evaluate")
        collect(wanted, out, measurements(paths, "evaluate"), params["hardware"])
        per_class = read_per_class(Path(folder), list(done))
        gains = novel_gains(Resampler(out, per_class, **params["bootstrap"]), ())
    table = table1(summarise(per_class), gains).round(4)
    write_page(paths.work / "table1.md", "Table 1 so far", view.blocks(table, paths.scale))
    for one in comparisons(table):
        if one.seeds:
            print(f"So far: {sentences.gain(one)}")


if __name__ == "__main__":
    run()
