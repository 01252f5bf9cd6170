"""Measures speed and memory: prints tables and writes them as CSV, with machine and commit.

    python -m benchmarks                      # all that need nothing more; forty minutes
    python -m benchmarks step parts           # some of them
    python -m benchmarks --list

Ratios are of one run: what is compared takes turns, and the median over the turns counts.
"""

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from opmask.errors import UserError, main
from study.spec.run import require

# name: (module.function, what it measures)
BENCHMARKS = {
    "step": ("models.step", "a training step by method, against detectron2 and a plain one"),
    "machine": ("models.machine", "training images a second of all cores, against a plain one"),
    "parts": ("models.parts", "where a training step's time goes"),
    "inference": ("models.inference", "images a second, as an evaluation runs"),
    "loader": ("models.loader", "training images a second that one process loads"),
    "targets": ("targets.measure", "mask targets of COCO's polygons, against detectron2's loop"),
    "evaluator": ("evaluator.measure", "one AP evaluation for all splits, against pycocotools"),
    "overlap": ("overlap.measure", "class overlap of COCO's boxes, against a loop over images"),
    "bootstrap": ("evaluator.bootstrap", "paired bootstrap over images"),
    "noop": ("dag.noop", "`dvc repro` with nothing to do; needs --clone"),
    "miniature": ("dag.miniature", "`dvc repro` at scale miniature in a fresh clone; an hour"),
}
ASKED_FOR = ("noop", "miniature")  # not among those that run when none is named
OF_A_MODEL = ("step", "parts", "inference", "loader")  # depend on --scale and --device


def parser() -> argparse.ArgumentParser:
    """The command line; every benchmark reads what concerns it. Defaults are README.md's.

    Models start from the warm start's weights if it is there, and take one thread each.
    """
    result = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("names", nargs="*", metavar="NAME", help="; ".join(BENCHMARKS))
    add("--list", action="store_true", help="say what there is, and stop")
    add("--out", type=Path, default=Path("benchmarks/results"), help="folder of the CSV files")
    add("--repeats", type=int, default=0, help="turns of each; default: the benchmark's own")
    add = result.add_argument_group("models").add_argument
    add("--scale", default="miniature", help="of params.yaml: miniature, smoke or coco")
    add("--backbone", default="R50")
    add("--variants", nargs="+", default=[], help="of benchmarks/variants.py, opmask beside them")
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--precision", choices=["fp32", "bf16"], default="", help="default: the scale's")
    add("--batch", type=int, default=0, help="images a step; default: the scale's")
    add("--starts", type=int, default=0, help="how often its processes start anew")
    add = result.add_argument_group("data").add_argument
    add("--coco-boxes", type=Path, metavar="FILE", help="for overlap: npz of all boxes")
    add("--clone", type=Path, metavar="DIR", help="for noop: where `dvc repro` has finished")
    return result


@main
def run(argv: Sequence[str]) -> None:
    """Run the benchmarks that are named, or all but those that must be asked for."""
    options = parser().parse_args(argv)
    if options.list:
        print("\n".join(f"{name:10} {text}" for name, (_, text) in BENCHMARKS.items()))
        return
    for name in options.names:
        require(name, BENCHMARKS, "benchmarks")
    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError("--device: cuda is asked for, but torch finds no GPU; there is cpu")
    for name in options.names or [n for n in BENCHMARKS if n not in ASKED_FOR]:
        measure(name, options)


def measure(name: str, options: argparse.Namespace) -> pd.DataFrame:
    """Run one benchmark, print its table, write `<--out>/<name>.csv`."""
    from benchmarks.timing import write  # torch: only where something is measured

    module, function = BENCHMARKS[name][0].split(".")
    print(f"\n{name}: {BENCHMARKS[name][1]}", flush=True)
    results = getattr(importlib.import_module(f"benchmarks.{module}"), function)(options)
    print(results.to_string(index=False, float_format="{:.4g}".format), flush=True)
    of_a_model = name in OF_A_MODEL  # another scale or a GPU: a file of its own
    scale = f"-{options.scale}" if of_a_model and options.scale != "miniature" else ""
    device = options.device if of_a_model else "cpu"
    path = options.out / f"{name}{scale}{'-cuda' if device == 'cuda' else ''}.csv"
    written = write(results, path, device)
    print(f"→ {path}", flush=True)
    return written


if __name__ == "__main__":
    run()
