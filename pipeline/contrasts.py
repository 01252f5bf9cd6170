"""Stage `contrasts`: the gradient ablation (section 4.4), the seven-convolution control, R-101
against R-50 and every gain, of your own splits and backbones too, each with its intervals.

Reads `runs/<scale>/evaluate/`; writes `reports/<scale>/tables/contrasts.csv` and `contrasts.md`.
"""

import argparse
from collections.abc import Sequence

from pipeline import stage
from study.analysis.contrasts import CONTRASTS, contrast_table, further_contrasts
from study.analysis.resampling import Resampler
from study.report.render import write_page
from study.report.views import contrasts as view
from study.spec.params import load_params
from study.spec.paths import Paths
from study.spec.results import read_per_class
from study.spec.run import all_runs


@stage
def run(argv: Sequence[str]) -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.contrasts", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    paths = Paths.of(params)
    runs = [one for one in all_runs(params) if one.schedule == str(params["schedule"])]
    per_class = read_per_class(paths.runs, runs)
    # rounded once, so that every page that is written from it says the same
    resampler = Resampler(paths.evaluate, per_class, **params["bootstrap"])
    table = contrast_table(resampler, (*CONTRASTS, *further_contrasts(runs))).round(4)
    paths.tables.mkdir(parents=True, exist_ok=True)
    table.to_csv(paths.tables / "contrasts.csv", index=False)
    write_page(paths.tables / "contrasts.md", "Contrasts between runs", view.blocks(table))


if __name__ == "__main__":
    run()
