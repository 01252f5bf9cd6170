"""Shows how far every planned run is: state, iteration, time left, last losses.

Run it beside `dvc repro`, in the same folder; it changes nothing. Shortest form: `--watch 10`.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

from tabulate import tabulate

from opmask.errors import UserError
from pipeline import command
from study.format import duration
from study.runs.progress import STATES, Progress, abandoned, progress, seconds_left
from study.spec.params import load_params

CLEAR = "\033[2J\033[H"  # the screen, and the cursor to its top


@command
def run(argv: Sequence[str]) -> None:
    """Print the table, once or again and again."""
    states = "\n".join(f"  {name:12}{meaning}" for name, meaning in STATES.items())
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.status",
        description=__doc__,
        epilog=f"states:\n{states}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--watch", type=float, metavar="SECONDS", help="repeat every so often, until Ctrl-C"
    )
    seconds = parser.parse_args(argv).watch
    if seconds is not None and not seconds > 0:
        raise UserError(f"--watch: {seconds:g} is not a number of seconds above 0")
    try:
        while True:
            text = page()
            print(CLEAR + text if seconds and sys.stdout.isatty() else text, flush=True)
            if not seconds:
                return
            time.sleep(seconds)
    except KeyboardInterrupt:  # how one stops watching
        if not seconds:
            raise


def page() -> str:
    """All that is known of the runs of params.yaml."""
    params = load_params()
    found = progress(params)
    parts = [f"Scale {params['scale']}", table(found), summary(found)]
    old = abandoned(params)
    if old:
        names = ", ".join(map(str, old[:3])) + (", …" if len(old) > 3 else "")
        parts.append(f"Of other settings, data or code; may be deleted if not wanted back: {names}")
    return "\n\n".join(parts)


def table(found: Sequence[Progress]) -> str:
    """A line a run."""
    names = {name for one in found for name in one.log.losses}
    # The sum first, the RPN's last.
    losses = sorted(names, key=lambda name: (name != "total_loss", "rpn" in name, name))
    rows = [
        {
            "Run": one.name,
            "State": one.state,
            "Iteration": f"{one.done}/{one.total}",
            "Left": duration(left) if one.state == "training" and left == left else "",
            **{
                "loss" if name == "total_loss" else name.removeprefix("loss_"): (
                    f"{one.log.losses[name]:.3f}" if name in one.log.losses else ""
                )
                for name in losses
            },
        }
        for one, left in zip(found, seconds_left(found), strict=True)
    ]
    align = ["left", "left"] + ["right"] * (2 + len(losses))
    return tabulate(rows, headers="keys", disable_numparse=True, colalign=align)


def summary(found: Sequence[Progress]) -> str:
    """How many runs are in which state, and the share of all iterations that is done."""
    counts = Counter(one.state for one in found)
    states = ", ".join(f"{counts[name]} {name}" for name in STATES if counts[name])
    done, total = sum(one.done for one in found), sum(one.total for one in found)
    share = f"{100 * done // total} %" if total else "nothing"
    return f"{states}; {done:,} of {total:,} iterations done ({share})"


if __name__ == "__main__":
    run()
