"""What is wrong with params.yaml, in words: the key's path, what was given, what is allowed."""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

FIRST = 3  # problems that one line names; of the others it gives the number
LONGEST = 70  # characters of a value that is shown

_BASIC = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_LIMITS = {"ge": "{} or more", "gt": "above {}", "le": "at most {}", "lt": "below {}"}


@dataclass(frozen=True)
class Words:
    """Beside a type in `Annotated`: what it allows, where its limits do not say it well."""

    text: str


def problems(error: ValidationError, model: type[BaseModel], given: Any) -> list[str]:  # noqa: ANN401
    """A `path: text` for every key that pydantic found fault with, each once."""
    found: dict[tuple, str] = {}
    suggested: set[tuple] = set()
    details = error.errors(include_url=False, include_context=False)
    for one in sorted(details, key=lambda one: one["type"] == "missing"):
        path, kind = _follow(one["loc"], one["type"], model, given)
        if one["type"] == "missing" and path in suggested:
            continue  # it is there, misspelt
        text = _text(one, path, kind)
        if one["type"] in ("extra_forbidden", "invalid_key"):
            suggested |= {(*path[:-1], near) for near in _near(path[-1], fields_of(kind))}
        found.setdefault(path, text)
    return [f"{dotted(path)}: {text}" for path, text in found.items()]


def one_line(found: Sequence[str]) -> str:
    """The first problems, and how many more there are."""
    more = [f"and {len(found) - FIRST} more"] if len(found) > FIRST else []
    return " ".join("; ".join([*found[:FIRST], *more]).split())


def dotted(path: Sequence[Any]) -> str:
    """`scales.coco.config.MODEL.FPN.NORM`."""
    return ".".join(map(str, path)) or "the file"


def unknown(what: str, name: Any, known: Collection[Any]) -> str:  # noqa: ANN401
    """`WHAT; did you mean 'x'? (there are …)`."""
    there = f"there are {', '.join(map(str, known))}" if known else "there is none"
    near = did_you_mean(name, known)
    return f"{what}{near} ({there})" if near else f"{what}; {there}"


def did_you_mean(name: Any, known: Collection[Any]) -> str:  # noqa: ANN401
    """`; did you mean 'x'?`, or nothing if nothing is near."""
    near = _near(name, known)
    return f"; did you mean '{near[0]}'?" if near else ""


def _near(name: Any, known: Collection[Any]) -> list[str]:  # noqa: ANN401
    return difflib.get_close_matches(str(name), [str(one) for one in known], n=1)


def shown(value: Any) -> str:  # noqa: ANN401
    """A value as YAML has it, not too long."""
    plain = {True: "true", False: "false", None: "null"}
    text = plain[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def _text(one: Mapping[str, Any], path: tuple, kind: Any) -> str:  # noqa: ANN401
    if one["type"] in ("extra_forbidden", "invalid_key"):
        return unknown("unknown key", path[-1], fields_of(kind))
    if one["type"] in ("missing", "union_tag_not_found"):
        return f"is missing; it is {allowed(kind)}"
    if get_origin(bare(kind)) is dict and one["type"] != "dict_type":
        return f"its key {shown(one['input'])} is not {allowed(get_args(bare(kind))[0])}"
    value = one["input"]
    if one["type"] == "union_tag_invalid":
        value = value[path[-1]]
    return f"{shown(value)} is not {allowed(kind)}{did_you_mean(value, choices(kind))}"


def _follow(loc: tuple, problem: str, model: Any, given: Any) -> tuple[tuple, Any]:  # noqa: ANN401
    """The path that pydantic's `loc` stands for, without the unions that it also names, and the
    type that is allowed there; of an unknown key the model that lacks it."""
    path: list[Any] = []
    kind = model
    before = (), kind
    for number, part in enumerate(loc):
        ends = number == len(loc) - 1
        there = isinstance(given, Mapping) and part in given
        there |= isinstance(given, list) and isinstance(part, int)
        if ends and problem in ("extra_forbidden", "invalid_key"):
            return (*path, part), _chosen(kind, given)
        if part == "[key]" and not there:  # of a mapping; said of the mapping
            return before
        before = tuple(path), kind
        if not (there or (ends and problem == "missing")):
            continue
        kind = _child(_chosen(kind, given), part)
        given = given[part] if there else None
        path.append(part)
    if problem.startswith("union_tag"):
        tags = [fields_of(one)["kind"].annotation for one in get_args(bare(kind))]
        return (*path, "kind"), Literal[*(value for tag in tags for value in get_args(tag))]
    return tuple(path), kind


def _child(kind: Any, part: Any) -> Any:  # noqa: ANN401
    """The type of what lies below `part` of a model, a mapping or a list."""
    kind = bare(kind)
    if part in fields_of(kind):
        return typed(kind.model_fields[part])
    return get_args(kind)[-1]


def _chosen(kind: Any, given: Any) -> Any:  # noqa: ANN401
    """Of a union of models the one that `kind` in `given` names, or of others the compound one."""
    kind = bare(kind)
    if get_origin(kind) not in (Union, UnionType):
        return kind
    for one in get_args(kind):
        if fields_of(one) and given.get("kind") in get_args(fields_of(one)["kind"].annotation):
            return one
    return next(one for one in get_args(kind) if get_args(bare(one)))


def typed(field: FieldInfo) -> Any:  # noqa: ANN401
    """The type of a model's field with its limits."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def bare(kind: Any) -> Any:  # noqa: ANN401
    """A type without its limits."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def fields_of(kind: Any) -> Mapping[str, Any]:  # noqa: ANN401
    """The fields of a model, by key; of other types none."""
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}


def choices(kind: Any) -> list[Any]:  # noqa: ANN401
    """The values that a type names one by one."""
    kind = bare(kind)
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        return [value for one in get_args(kind) for value in choices(one)]
    return []


def allowed(kind: Any) -> str:  # noqa: ANN401
    """What a type allows, in words."""
    metadata = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    words = [one.text for one in metadata if isinstance(one, Words)]
    if words:
        return words[0]
    base, limits = bare(kind), list(_limits(metadata))
    of, args = get_origin(base), get_args(base)
    if of is Literal:
        text = " or ".join(filter(None, [", ".join(map(str, args[:-1])), str(args[-1])]))
    elif of in (Union, UnionType):
        text = " or ".join(allowed(one) for one in args)
    elif of is list:
        filled = "non-empty " if "not empty" in limits else ""
        return f"a {filled}list of values, each {allowed(args[0])}"
    elif of is dict:
        text = f"a mapping of names to values, each {allowed(args[1])}"
    elif fields_of(base):
        text = f"a mapping with {', '.join(fields_of(base))}"
    else:
        text = _BASIC.get(base, "null" if base is NoneType else "any value")
    return ", ".join([text, *limits])


def _limits(metadata: Sequence[Any]) -> Iterator[str]:
    for one in metadata:
        inner = getattr(one, "metadata", [one])  # of a Field in a type
        for limit in inner:
            for name, words in _LIMITS.items():
                if getattr(limit, name, None) is not None:
                    yield words.format(getattr(limit, name))
            if getattr(limit, "min_length", 0):
                yield "not empty"
