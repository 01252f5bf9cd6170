"""Measures speed and memory: prints tables and writes them as CSV, with machine and commit.

    python -m benchmarks                      # all that need nothing more; forty minutes
    python -m benchmarks step parts           # some of them

Ratios are of one run: what is compared takes turns, and the median over the turns counts.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch

from benchmarks import dag, evaluator, models, overlap, targets
from benchmarks.timing import write
from opmask.errors import UserError, main
from study.spec.params import require

# These depend on --scale and --device, whence a file of their own for another scale or a GPU.
OF_A_MODEL = (models.step, models.machine, models.parts, models.inference, models.loader)
ALONE = (targets.targets, evaluator.evaluator, overlap.overlap, evaluator.bootstrap)
ASKED_FOR = (dag.noop, dag.miniature)  # not among those that run when none is named
BENCHMARKS: dict[str, Callable[[argparse.Namespace], pd.DataFrame]] = {
    function.__name__: function for function in (*OF_A_MODEL, *ALONE, *ASKED_FOR)
}


def parser() -> argparse.ArgumentParser:
    """The command line; every benchmark reads what concerns it. Defaults are README.md's.

    Models start from the warm start's weights if it is there, and take one thread each.
    """
    about = [f"  {name:11}{_title(function)}" for name, function in BENCHMARKS.items()]
    result = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="\n".join(["benchmarks:", *about]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("names", nargs="*", metavar="NAME", help="of the benchmarks below; default: most of them")
    add("--out", type=Path, default=Path("benchmarks/results"), help="folder of the CSV files")
    add("--repeats", type=int, default=0, help="turns of each; default: the benchmark's own")
    add("--clone", type=Path, metavar="DIR", help="for noop: where `dvc repro` has finished")
    add = result.add_argument_group("models").add_argument
    add("--scale", default="miniature", help="miniature, smoke or coco")
    add("--backbone", default="R50")
    add("--variants", nargs="+", default=[], help="of benchmarks/variants.py, opmask beside them")
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--precision", choices=["fp32", "bf16"], default="", help="default: the scale's")
    add("--batch", type=int, default=0, help="images a step; default: the scale's")
    add("--starts", type=int, default=0, help="how often its processes start anew")
    return result


def _title(function: Callable) -> str:
    return (function.__doc__ or "").splitlines()[0].rstrip(".")


@main
def run(argv: Sequence[str]) -> None:
    """Run the benchmarks that are named, or all but those that must be asked for."""
    options = parser().parse_args(argv)
    for name in options.names:
        require(name, BENCHMARKS, "benchmarks")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device: cuda is asked for, but torch finds no GPU; there is cpu")
    for name in options.names or [n for n, f in BENCHMARKS.items() if f not in ASKED_FOR]:
        measure(name, options)


def measure(name: str, options: argparse.Namespace) -> None:
    """Run one benchmark, print its table, write `<--out>/<name>.csv`."""
    function = BENCHMARKS[name]
    print(f"\n{name}: {_title(function)}", flush=True)
    results = function(options)
    print(results.to_string(index=False, float_format="{:.4g}".format), flush=True)
    scale, device = options.scale, options.device
    if function not in OF_A_MODEL:
        scale, device = "miniature", "cpu"
    parts = [name, scale if scale != "miniature" else "", device if device != "cpu" else ""]
    path = options.out / f"{'-'.join(filter(None, parts))}.csv"
    write(results, path, device)
    print(f"→ {path}", flush=True)


if __name__ == "__main__":
    run()
