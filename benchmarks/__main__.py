"""Measures speed and memory: prints tables and writes them as CSV, with machine and commit.

    python -m benchmarks                   # all; an hour
    python -m benchmarks step machine      # some of them
    python -m benchmarks gpu --help        # what only a GPU can show, apart from these

Ratios are of one run: what is compared takes turns, and the median over the turns counts.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch

from benchmarks import coco_repro, coco_size, evaluator, models
from benchmarks.gpu import command as gpu
from benchmarks.timing import write
from opmask.errors import UserError, main
from study.spec.params import require

# These depend on --scale and --device, whence a file of their own for another scale or a GPU.
OF_A_MODEL = (models.step, models.machine, models.costs)
BENCHMARKS: dict[str, Callable[[argparse.Namespace], pd.DataFrame]] = {
    function.__name__: function
    for function in (
        *(models.step, models.machine, evaluator.evaluator, evaluator.bootstrap),
        *(coco_size.coco_size, coco_repro.coco_repro, models.costs),
    )
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
    add("names", nargs="*", metavar="NAME", help="of the benchmarks below; default: all")
    add("--out", type=Path, default=Path("benchmarks/results"), help="folder of the CSV files")
    add("--boxes", type=Path, help="of coco_*: folder of boxes_{train,val}2017.npz with COCO's")
    add("--repeats", type=int, default=0, help="turns of each; default: the benchmark's own")
    add("--scale", default="miniature", help="of models: miniature, smoke or coco")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="of models")
    add("--batch", type=int, default=0, help="images a step of models; default: the scale's")
    return result


def _title(function: Callable) -> str:
    return (function.__doc__ or "").splitlines()[0].rstrip(".")


@main
def run(argv: Sequence[str]) -> None:
    """Run the benchmarks that are named, or all; print each table, write `<--out>/<name>.csv`."""
    if argv[:1] == ["gpu"]:
        return gpu.run(argv[1:])
    options = parser().parse_args(argv)
    for name in options.names:
        require(name, BENCHMARKS, "benchmarks")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device: cuda is asked for, but torch finds no GPU; there is cpu")
    for name in options.names or BENCHMARKS:
        function, stem, device = BENCHMARKS[name], name, "cpu"
        if function in OF_A_MODEL:
            device = options.device
            stem += f"-{options.scale}" * (options.scale != "miniature")
            stem += f"-{device}" * (device != "cpu")
        print(f"\n{name}: {_title(function)}", flush=True)
        results = function(options)
        print(results.to_string(index=False, float_format="{:.4g}".format), flush=True)
        write(results, options.out / f"{stem}.csv", device)
        print(f"→ {options.out / stem}.csv", flush=True)


if __name__ == "__main__":
    run()
