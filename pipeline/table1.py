"""Stage `table1`: Table 1 of the paper, from the evaluated runs of the global schedule.

Reads `runs/<scale>/evaluate/` and the validation annotations; writes
`reports/<scale>/tables/table1.{csv,md,tex}` and `per_class.csv`, of all runs.
"""

from opmask.data.coco import load_json, load_manifest
from pipeline.reporting import Scale, report_stage
from study.analysis.oracle import Oracle
from study.analysis.resampling import Resampler
from study.report.render import write_table
from study.report.views import table1 as view
from study.spec.results import read_per_class, summarise
from study.tables.table1 import count_objects, novel_gains, table1, with_oracle


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    params, paths = scale.params, scale.paths
    per_class = read_per_class(paths.runs, scale.scheduled)
    resampler = Resampler(paths.evaluate, per_class, **params["bootstrap"])
    gains = novel_gains(resampler, per_class["backbone"])
    summary, gains = with_oracle(summarise(per_class), gains, Oracle(resampler))
    objects = {}
    if paths.manifest.is_file():
        annotations = load_json(load_manifest(paths.manifest).val.annotations)["annotations"]
        objects = count_objects(per_class, annotations)
    # rounded once, so that every page that is written from it says the same
    table = table1(summary, gains, objects).round(4)
    tex = view.tex(table, paths.scale)
    write_table(paths.tables / "table1.csv", table, "Table 1", view.blocks(table, paths.scale), tex)
    everything = read_per_class(paths.runs, scale.runs)
    everything.round(2).to_csv(paths.tables / "per_class.csv", index=False)


if __name__ == "__main__":
    run()
