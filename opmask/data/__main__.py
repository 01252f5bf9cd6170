"""Looks at a data set before anything is trained on it; changes nothing.

check --root DIR                        COCO 2017: what is there, what is missing, where to get it
check --annotations FILE --images DIR   your own set: can it be used, how many boxes and masks
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from opmask.data import checks, coco_files
from opmask.errors import UserError, main

LAYOUTS = {"coco": coco_files.ARCHIVES}
GOOD = ("complete", "not needed")  # states of `coco_files.Item`


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m opmask.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="check")
    check = commands.add_parser(
        "check", description=__doc__, formatter_class=parser.formatter_class
    )
    check.add_argument("--root", type=Path, help="the folder that data_root will name")
    check.add_argument(
        "--layout", choices=list(LAYOUTS), default="coco", help="of --root; default coco"
    )
    check.add_argument("--quick", action="store_true", help="compare sizes, read no checksums")
    check.add_argument("--annotations", type=Path, metavar="FILE", help="a json in COCO's format")
    check.add_argument("--images", type=Path, metavar="DIR", help="the folder of its images")
    check.add_argument(
        "--decode", action="store_true", help="read every image whole, which finds truncated ones"
    )
    check.add_argument(
        "--evaluation", action="store_true", help="for evaluation: every object needs a mask"
    )
    args = parser.parse_args(argv)
    own = args.annotations is not None and args.images is not None
    if (args.root is None) == (not own):
        check.error("give either --root, or both --annotations and --images")
    return args


def run_check() -> None:
    """Command `opmask-check`, which is `python -m opmask.data check`."""
    run(["check", *sys.argv[1:]])


@main
def run(argv: Sequence[str]) -> None:
    """Command line: one of the two checks."""
    args = arguments(argv)
    if args.root is None:
        print(own_set(args))
        return
    root = args.root.expanduser().absolute()
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    items = list(coco_files.inventory(root, LAYOUTS[args.layout], checksums=not args.quick))
    print(report(root, items))
    if any(item.state not in GOOD for item in items):
        sys.exit(1)


def report(root: Path, items: Sequence[coco_files.Item]) -> str:
    """A line an item, and what to fetch."""
    rows = [(item.name, item.state, item.size, item.checksum) for item in items]
    table = tabulate(rows, headers=("in " + str(root), "state", "size", "checksum"))
    parts = []
    differs = [item.name for item in items if item.state == "differs"]
    if differs:
        parts.append(f"Not as published: {', '.join(differs)}")
    wanted = list(dict.fromkeys(item.archive for item in items if item.state not in GOOD))
    there = [i.archive for i in items if i.name.endswith(".zip") and i.state == "complete"]
    for archive in wanted:
        what = "Unpack" if archive in there else "Fetch and unpack"
        size = coco_files.readable(archive.zip.size)
        parts.append(f"{what} in {root}: {archive.address} ({size}, {archive.zip.checksum})")
    return "\n\n".join([table, "\n".join(parts) or "All is there."])


def own_set(args: argparse.Namespace) -> str:
    """What a set in COCO's format holds; UserError if it breaks the data contract."""
    found = checks.check(
        args.annotations,
        args.images,
        images="decode" if args.decode else "header",
        on_degenerate="skip",
        for_evaluation=args.evaluation,
    )
    rows = [
        (c["id"], c["name"], found.instances_by_category[c["id"]], found.masks_by_category[c["id"]])
        for c in checks.load_categories(args.annotations)
    ]
    table = tabulate(rows, headers=("id", "class", "objects", "with masks"))
    line = (
        f"{found.images:,} images, {found.annotations:,} annotations: {found.with_masks:,} with "
        f"masks, {found.crowd:,} crowds, {found.degenerate:,} degenerate shapes (left out)"
    )
    warnings = "".join(f"warning: {warning}\n" for warning in found.warnings)
    return f"{table}\n\n{line}\n{warnings}{args.annotations}: can be used"


if __name__ == "__main__":
    run()
