"""Packs the initial weights that stage `pretrain` trained, to be shipped in `opmask/shipped/`.

For maintainers, after `dvc exp run -S scales/miniature.yaml:initial_weights=train pretrain`. All
trainings that begin with them are then out of date.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from opmask.errors import UserError
from pipeline import stage
from study.runs.progress import phase_folders
from study.spec.params import SHIPPED, load_params
from study.spec.paths import LOG, PROVENANCE, Paths
from study.spec.results import read_json

FIRST = 5  # lines of the first phase's log


@stage
def run(argv: Sequence[str]) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.ship", description=__doc__)
    parser.parse_args(argv)
    params = load_params()
    paths, name = Paths.of(params), params["scale"]
    scale = params["scales"][name]
    if scale.get("initial_weights") == SHIPPED:
        raise UserError(f"scales/{name}.yaml: initial_weights: is {SHIPPED}; there is nothing new")
    from opmask.model.plain_weights import read
    from opmask.shipped import FOLDER, pack

    for backbone in scale["warm_start"]:
        weights = read(str(paths.initial(backbone)))["model"]
        kept = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
        about = read_json(paths.pretrain / backbone / PROVENANCE)
        about["first_losses"] = first_losses(phase_folders(backbone, params)[0] / LOG)
        out = FOLDER / f"{backbone}.safetensors"
        pack(kept, about, out)
        print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB")


def first_losses(log: Path) -> dict[str, float]:
    """By iteration, 0-based, so that a test can see whether the recipe still begins like this."""
    rows = [json.loads(line) for line in log.read_text().splitlines()[:FIRST]]
    return {str(row["iteration"]): row["total_loss"] for row in rows}


if __name__ == "__main__":
    run()
