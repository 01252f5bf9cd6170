"""Stage `rivals`: other systems retrained on the paper's base, ranked, with what they cost.

Reads `reports/<scale>/tables/contrasts.csv` and `runs/<scale>/{train,evaluate}/` or, if no other
system is among the runs, the table of an experiment at this scale, of `reports/experiments/`;
writes `reports/<scale>/tables/rivals.csv` and `rivals.md`.
"""

from collections import defaultdict
from pathlib import Path
from statistics import median

import pandas as pd

from opmask.integrity import verified
from pipeline.reporting import Scale, report_stage
from study.analysis.rivals import BACKBONE, COLUMNS, has_rivals, rivals_table
from study.labels import BASELINE, DIRECTIONS
from study.report.inputs import read_csv, read_repeated
from study.report.render import write_table
from study.report.views import rivals as view
from study.spec.paths import CONFIG, PROVENANCE
from study.spec.results import read_json


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    contrasts = read_csv(scale.paths.tables / "contrasts.csv")
    if has_rivals(contrasts):
        table = rivals_table(contrasts, costs(scale)).round(4)
    else:
        others = read_repeated(scale.paths, "rivals").values()
        table = next(iter(others), pd.DataFrame(columns=COLUMNS))
    write_table(scale.paths.tables / "rivals.csv", table, "Other systems", view.blocks(table))


def costs(scale: Scale) -> dict[str, dict[str, float]]:
    """By method, of its R-50 runs: millions of parameters; seconds an iteration and seconds of the
    test, medians, as multiples of the baseline's. Times are of runs that trained side by side."""
    seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    millions: dict[str, float] = {}
    for one in scale.scheduled:
        if one.backbone != BACKBONE or one.supervised not in DIRECTIONS:
            continue
        trained = read_json(scale.paths.train / one.key / PROVENANCE)
        tested = read_json(scale.paths.evaluate / one.key / PROVENANCE)
        own = trained.get("iterations", 0) - trained.get("shared_iterations", 0)
        if own > 0:
            seconds[one.method]["training"].append(trained["wall_s"] / own)
        if "seconds" in tested:
            seconds[one.method]["test"].append(tested["seconds"])
        if one.method not in millions:
            millions[one.method] = parameters(scale.paths.train / one.key / CONFIG) / 1e6
    found = {}
    for method, number in millions.items():
        times = {
            name: median(values) / median(seconds[BASELINE][name])
            for name, values in seconds[method].items()
            if seconds[BASELINE][name]
        }
        found[method] = {"parameters": number, **times}
    return found


def parameters(config: Path) -> int:
    """Of the model that `config.yaml` of a trained run describes. torch is imported only here."""
    import torch
    from detectron2.modeling import build_model

    from opmask.model.config import load_config

    cfg = load_config(verified(config))
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_model(cfg).parameters())


if __name__ == "__main__":
    run()
