"""Stage `rivals`: other systems retrained on the paper's base, ranked, with what they cost.

Reads `reports/<scale>/tables/contrasts.csv`, `runs/<scale>/{train,search}/` or, if no other system
(no combination) is among the runs, the tables of an experiment at this scale, in
`reports/experiments/`, where the times are as well; writes `rivals.csv`, `rivals.md` and
`combinations.csv` in `reports/<scale>/tables/`.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from opmask.integrity import verified
from pipeline.reporting import Scale, report_stage
from study.analysis.combinations import combinations_table
from study.analysis.held_out import read_curves
from study.analysis.rivals import BACKBONE, COLUMNS, has_rivals, rivals_table, with_times
from study.labels import DIRECTIONS
from study.report.inputs import read_csv, read_repeated
from study.report.render import write_table
from study.report.views import rivals as view
from study.spec.paths import CONFIG


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    contrasts = read_csv(scale.paths.tables / "contrasts.csv")
    if has_rivals(contrasts):
        table = rivals_table(contrasts, millions(scale)).round(4)
    else:
        table = _of_an_experiment(scale, "rivals", COLUMNS)
    table = with_times(table, _of_an_experiment(scale, "costs", []))
    tried = combinations_table(read_curves(scale.paths.search, scale.runs)).round(4)
    if tried.empty:
        tried = _of_an_experiment(scale, "combinations", list(tried))
    tried.to_csv(scale.paths.tables / "combinations.csv", index=False)
    blocks = view.blocks(table, tried)
    write_table(scale.paths.tables / "rivals.csv", table, "Other systems", blocks)


def _of_an_experiment(scale: Scale, name: str, columns: Sequence[str]) -> pd.DataFrame:
    others = read_repeated(scale.paths, name).values()
    return next(iter(others), pd.DataFrame(columns=columns))


def millions(scale: Scale) -> dict[str, float]:
    """Of parameters of each method's R-50 runs."""
    configs = {
        one.method: scale.paths.train / one.key / CONFIG
        for one in scale.scheduled
        if one.backbone == BACKBONE and one.supervised in DIRECTIONS
    }
    return {name: parameters(path) / 1e6 for name, path in configs.items() if path.is_file()}


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
