"""Stage `plan`: one file per run with everything in params.yaml that determines it."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from opmask.errors import main
from opmask.params import load_params
from opmask.plan import all_runs, specification


@main
def run(argv: Sequence[str]) -> None:
    """Write `runs/<scale>/plan/<run>-<seed>.yaml` for every run of params.yaml."""
    argparse.ArgumentParser(prog="python -m pipeline.plan", description=__doc__).parse_args(argv)
    params = load_params()
    specifications = {r.key: specification(r, params) for r in all_runs(params)}
    out = Path("runs", params["scale"], "plan")
    partial = out.with_name("plan.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for key, content in specifications.items():
        (partial / f"{key}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    print(f"{len(specifications)} runs planned at scale {params['scale']}: {out}")


if __name__ == "__main__":
    run()
