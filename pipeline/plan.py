"""Stage `plan`: checks the parameters; one file a job with everything there that determines it."""

import argparse
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from opmask.data.coco import load_categories
from opmask.data.splits import COCO_CLASSES, resolve
from opmask.errors import UserError
from pipeline import stage
from study.spec.data_settings import check_settings
from study.spec.params import data_root, load_params
from study.spec.paths import Paths
from study.spec.run import Run, all_runs, shared_specifications, specification

PAPERS_MASK_HEADS = ("none", "PriorMaskHead")


@stage
def run(argv: Sequence[str]) -> None:
    """Write `runs/<scale>/plan/{data,pretrain,<run>-<seed>}.yaml`."""
    argparse.ArgumentParser(prog="python -m pipeline.plan", description=__doc__).parse_args(argv)
    params = load_params()
    check_settings(params)
    check_splits(all_runs(params), params)
    check_models(params)
    runs = {r.key: specification(r, params) for r in all_runs(params)}
    specifications = {**shared_specifications(params), **runs}
    out = Paths.of(params).plan
    partial = out.with_name("plan.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for key, content in specifications.items():
        (partial / f"{key}.yaml").write_text(yaml.safe_dump(content))
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    named = params["runs"] != params["suites"][params["suite"]]
    of = "named by `runs`" if named else f"of suite {params['suite']}"
    print(f"{len(runs)} trainings planned at scale {params['scale']}, {of}: {out}")


def check_models(params: Mapping[str, Any]) -> None:
    """Raises UserError unless detectron2 can build every model, where they are not the paper's."""
    scale = params["scales"][params["scale"]]
    others = any("timm" in params["backbones"][run.backbone] for run in all_runs(params))
    methods = [params["methods"][run.method] for run in all_runs(params)]
    own = ("config", "components", "roi_heads")
    others |= any(any(map(m.get, own)) or m["mask_head"] not in PAPERS_MASK_HEADS for m in methods)
    if scale["config"] or scale["warm_start"] or others:
        from study.spec import overrides

        overrides.check_overrides(params)
        overrides.check_models(params)


def check_splits(runs: Sequence[Run], params: Mapping[str, Any]) -> None:
    """Raises UserError unless every run's split fits the data set's classes.

    Without it, a class name that is mistyped would be found only after the warm start.
    """
    settings = params["scales"][params["scale"]]["data"]
    if settings["kind"] == "miniature" or settings.get("official"):
        categories = [{"name": name} for name in COCO_CLASSES]
    else:
        categories = load_categories(data_root(params) / settings["train_annotations"])
    for name in dict.fromkeys(run.supervised for run in runs):
        try:
            resolve(name, categories, params["splits"])
        except UserError as error:
            own = ", ".join(["all", *params["splits"]])
            hint = f"; of this data set there are: {own}" if name not in params["splits"] else ""
            raise UserError(f"params.yaml: runs: {error}{hint}") from error


if __name__ == "__main__":
    run()
