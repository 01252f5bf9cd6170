"""The table of all parameters, from `study.spec.schema`: path, allowed values, meaning."""

from collections.abc import Iterator
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from tabulate import tabulate

from study.spec.schema import Params
from study.spec.schema_messages import allowed, bare, fields_of, shown, typed

HEAD = """# Parameters

What `params.yaml` may say, made by `python -m pipeline.params --markdown` from
`study/spec/schema.py`. NAME stands for a name of your own, N for a place in a list. Whatever
is not in this table, or not of this kind, is refused by every stage before it does anything. Stage
`plan` also asks detectron2 whether it has the settings under `config` and `phases`, and builds
every model with them, without values.
"""


class Row(NamedTuple):
    """One parameter. default: what it is if left out; "" if it may not be."""

    path: str
    values: str
    default: str
    meaning: str


def rows() -> list[Row]:
    """Every parameter, in the order of the schema, each mapping before what is in it."""
    return list(_of_model(Params, ""))


def table(markdown: bool = False) -> str:
    """All rows, for a terminal or as a page of the documentation."""
    heads = ("parameter", "allowed", "if left out", "meaning")
    if not markdown:
        widths = [None, 40, 12, 50]
        return tabulate(rows(), heads, maxcolwidths=widths, disable_numparse=True)
    lines = [heads, ["---"] * len(heads), *((f"`{path}`", *rest) for path, *rest in rows())]
    return HEAD + "\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _of_model(model: Any, above: str) -> Iterator[Row]:  # noqa: ANN401
    for key, field in fields_of(model).items():
        kind = typed(field)
        yield Row(above + key, _values(kind), _default(field), field.description or "")
        yield from _below(kind, above + key)


def _below(kind: Any, path: str) -> Iterator[Row]:  # noqa: ANN401
    """The rows of what a mapping, a list or a union of models contains."""
    kind = bare(kind)
    if fields_of(kind):
        yield from _of_model(kind, f"{path}.")
    elif get_origin(kind) in (Union, UnionType):
        for one in get_args(kind):
            if fields_of(one):
                (name,) = get_args(fields_of(one)["kind"].annotation)
                yield from _of_model(one, f"{path} ({name}).")
    elif get_origin(kind) in (dict, list):
        name = "NAME" if get_origin(kind) is dict else "N"
        yield from _below(get_args(kind)[-1], f"{path}.{name}")


def _values(kind: Any) -> str:  # noqa: ANN401
    """As `allowed`, without what the rows below say."""
    inner = bare(kind)
    if get_origin(inner) in (Union, UnionType) and any(map(fields_of, get_args(inner))):
        return "a mapping, by its `kind`"
    if fields_of(inner):
        return "a mapping"
    if get_origin(inner) is dict and list(_below(kind, "")):
        return "a mapping of names"
    if get_origin(inner) is list and list(_below(kind, "")):
        return "a list"
    return allowed(kind)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    return "—" if field.default is None else shown(field.default).strip("'")
