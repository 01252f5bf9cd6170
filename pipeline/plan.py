"""Stage `plan`: checks params.yaml; one file a job with everything there that determines it."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from opmask.errors import main
from opmask.planning.params import load_params
from opmask.planning.plan import all_runs, shared_specifications, specification
from pipeline.data import check_settings


@main
def run(argv: Sequence[str]) -> None:
    """Write `runs/<scale>/plan/{data,pretrain,<run>-<seed>}.yaml`."""
    argparse.ArgumentParser(prog="python -m pipeline.plan", description=__doc__).parse_args(argv)
    params = load_params()
    check_settings(params)
    runs = {r.key: specification(r, params) for r in all_runs(params)}
    specifications = {**shared_specifications(params), **runs}
    out = Path("runs", params["scale"], "plan")
    partial = out.with_name("plan.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for key, content in specifications.items():
        (partial / f"{key}.yaml").write_text(yaml.safe_dump(content))
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    print(f"{len(runs)} runs planned at scale {params['scale']}: {out}")


if __name__ == "__main__":
    run()
