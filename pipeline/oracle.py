"""Stage `oracle`: masks in true boxes, of every run with a mask head and of floors.

Reads `runs/<scale>/evaluate/` and `runs/<scale>/ambiguity.csv`; writes
`reports/<scale>/tables/oracle.{csv,md,tex}` and `oracle_parts.csv`, by class, size and ambiguity.
"""

import pandas as pd

from pipeline.reporting import Scale, report_stage
from study.analysis.oracle import Oracle
from study.analysis.resampling import Resampler
from study.report.render import write_table
from study.report.views import oracle as view
from study.spec.results import read_per_class
from study.tables.oracle import oracle_parts, oracle_table


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    paths = scale.paths
    per_class = read_per_class(paths.runs, scale.scheduled)
    oracle = Oracle(Resampler(paths.evaluate, per_class, **scale.params["bootstrap"]))
    # rounded once, so that every page that is written from it says the same
    table = oracle_table(oracle).round(4)
    tex = view.tex(table, paths.scale)
    write_table(paths.tables / "oracle.csv", table, "Masks in true boxes", view.blocks(table), tex)
    regions = pd.read_csv(paths.ambiguity, usecols=["annotation_id", "ambiguous"])
    ambiguous = regions.drop_duplicates("annotation_id").set_index("annotation_id")["ambiguous"]
    names = per_class.drop_duplicates("category_id").set_index("category_id")["category"]
    parts = oracle_parts(oracle, ambiguous, names).round(2)
    parts.to_csv(paths.tables / "oracle_parts.csv", index=False)


if __name__ == "__main__":
    run()
