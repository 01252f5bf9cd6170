"""The table of all parameters, from `schema.yaml`: path, allowed values, meaning."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tabulate import tabulate

from study.spec.schema import SCHEMA, Node, allowed
from study.spec.schema.words import shown

HEAD = """# Parameters

What the parameter files may say, made by `python -m pipeline.params --markdown` from
`study/spec/schema/schema.yaml`. NAME stands for a name of your own, N for a place in a list.
Whatever is not in these tables, or not of this kind, is refused by every stage before it does
anything. Stage `plan` also asks detectron2 whether it has the settings under `config` and `phases`,
and builds every model with them, without values.
"""


class Row(NamedTuple):
    """One parameter. default: what it is if left out; "" if it may not be."""

    path: str
    values: str
    default: str
    meaning: str


def rows() -> dict[str, list[Row]]:
    """By file, every parameter in the schema's order, each mapping before what is in it."""
    return {file: list(_of_keys(keys, "")) for file, keys in SCHEMA.items() if file != "kinds"}


def table(markdown: bool = False) -> str:
    """All rows, for a terminal or as a page of the documentation."""
    heads = ("parameter", "allowed", "if left out", "meaning")
    if not markdown:
        widths = [None, 40, 12, 50]
        options: dict[str, Any] = {"maxcolwidths": widths, "disable_numparse": True}
        return "\n\n".join(f"{f}\n\n{tabulate(r, heads, **options)}" for f, r in rows().items())
    pages = [HEAD]
    for file, found in rows().items():
        lines = [heads, ["---"] * len(heads), *((f"`{path}`", *rest) for path, *rest in found)]
        pages.append(
            f"## {file}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
        )
    return "\n".join(pages).rstrip()


def _of_keys(keys: Mapping[str, Node], above: str) -> Iterator[Row]:
    for key, node in keys.items():
        path, below = above + key, list(_below(node, above + key))
        default = shown(node["default"]).strip("'") if "default" in node else ""
        default = "—" if node.get("optional") else default
        values = allowed(node)
        if below:  # which say the rest
            values = {"kinds": "a mapping, by its `kind`", "names": "a mapping of names"}.get(
                next((form for form in ("kinds", "names") if form in node), ""), "a mapping"
            )
        yield Row(path, values, default, node["means"])
        yield from below


def _below(node: Node, path: str) -> Iterator[Row]:
    """The rows of what a mapping contains."""
    yield from _of_keys(node.get("keys", {}), f"{path}.")
    for kind, keys in node.get("kinds", {}).items():
        yield from _of_keys(keys, f"{path} ({kind}).")
    if "each" in node:
        yield from _below(node["each"], f"{path}.NAME")
