"""Pages of an experiment with several seeds, from the csv files of its folder (no DVC stage).

Reads `{table1,contrasts,per_class}.csv` and, if there, `{rivals,combinations,costs}.csv`; writes
`table1.md`, `contrasts.md`, `README.md` and `gains.csv` beside them, `rivals.md`, and of an
experiment with controls their figure. The report of the scale links to every folder of
reports/experiments/ that has a `gains.csv` of it, and shows controls and other systems that are not
among its own runs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from opmask.errors import main
from study.analysis.controls import controls_table
from study.analysis.rivals import with_times
from study.figures import style
from study.figures.controls import draw
from study.report.inputs import read_csv
from study.report.render import write_page
from study.report.views import contrasts, controls, rivals, seeds, table1


@main
def run(argv: Sequence[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.seeds", description=__doc__)
    parser.add_argument("folder", type=Path, help="for example reports/experiments/longer")
    parser.add_argument("--scale", default="miniature", help="of the runs (default: %(default)s)")
    args = parser.parse_args(argv)
    folder, scale = args.folder, args.scale
    table, pairs, per_class = (
        read_csv(folder / f"{name}.csv") for name in ("table1", "contrasts", "per_class")
    )
    write_page(folder / "table1.md", "Table 1", table1.blocks(table, scale))
    write_page(folder / "contrasts.md", "Contrasts between runs", contrasts.blocks(pairs))
    found = seeds.gains(per_class, scale)
    found.round(4).to_csv(folder / "gains.csv", index=False)
    drawn = controls_table(pairs).round(4)
    if len(drawn):
        style.save(draw(drawn), folder, "controls")
    if (path := folder / "rivals.csv").is_file():
        beside = (folder / f"{name}.csv" for name in ("combinations", "costs"))
        known = (read_csv(one) if one.is_file() else None for one in beside)
        tried, costs = known
        ranked = with_times(read_csv(path), costs)
        write_page(path.with_suffix(".md"), "Other systems", rivals.blocks(ranked, tried))
    below = controls.paragraphs(pairs)
    page = seeds.seeds_page(found, sorted(per_class["run"].unique()), scale, below, path.is_file())
    (folder / "README.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run()
