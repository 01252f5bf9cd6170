"""Whether params.yaml, paper.yaml and the files of scales/ say what they may: `schema.yaml`.

`check_forms` and `check_rules` can only refuse. They change nothing and give nothing back, and
nothing that decides a result may be taken from here, so that no result depends on this package.
`docs/params.md` is made from the same file (`study.spec.schema.table`).
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from opmask.errors import UserError
from study.spec.dotted import leaves
from study.spec.schema.rules import contradictions
from study.spec.schema.words import did_you_mean, nearest, one_line, shown, unknown

SCHEMA: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("schema.yaml").read_text("utf-8"))
Node = Mapping[str, Any]


def check_forms(files: Mapping[str, Any]) -> None:
    """Raises UserError unless each file, by its name, has the keys that it may have, of their kind.

    The message names the file, the key's path, what was given, what is allowed and the nearest
    that is.
    """
    found = []
    for name, content in files.items():
        node = {"keys": SCHEMA[name if name in SCHEMA else "scales/NAME.yaml"]}
        try:
            found += [f"{name}: {text}" for text in _faults(node, content, "")]
        except RecursionError:  # an alias of what it is in
            found.append(f"{name}: has a mapping that contains itself")
    if found:
        raise UserError(one_line(sorted(found, key=lambda text: " is missing; " in text)))


def check_rules(params: Mapping[str, Any]) -> None:
    """Raises UserError if parameters, each of the right form, contradict each other."""
    found = [in_file(text) for text in contradictions(params)]
    if found:
        raise UserError(one_line(found))


def in_file(path: str) -> str:
    """`scales/coco.yaml: precision` of `scales.coco.precision`, and so on: where a key is set."""
    key, _, below = path.partition(".")
    if key == "scales":
        name, _, below = below.partition(".")
        return f"scales/{name}.yaml: {below}"
    return f"{'params' if key.partition(':')[0] in SCHEMA['params.yaml'] else 'paper'}.yaml: {path}"


def allowed(node: Node) -> str:
    """What a value may be, in words."""
    if node.get("list"):
        filled = "non-empty " if node.get("filled") else ""
        return f"a {filled}list of values, each {allowed({**node, 'list': False})}"
    if "choices" in node:
        *first, last = map(str, node["choices"])
        return f"{', '.join(first)} or {last}"
    if "names" in node:
        return f"a mapping of names to values, each {allowed(node['each'])}"
    if "is" in node:
        return SCHEMA["kinds"][node["is"]]["words"]
    return f"a mapping with {', '.join(node.get('keys', ['kind']))}"


def _faults(node: Node, given: Any, path: str) -> Iterator[str]:  # noqa: ANN401
    """`path: text` for every fault in what was given for a key."""
    if node.get("list") and (isinstance(given, list | dict) or not node.get("one")):
        if isinstance(given, list) and (given or not node.get("filled")):
            for number, one in enumerate(given):
                yield from _faults({**node, "list": False}, one, _below(path, number))
        else:
            yield _is_not(node, given, path)
    elif "is" in node or "choices" in node:
        if not _fits(node, given):
            yield _is_not(node, given, path)
    elif not isinstance(given, dict):
        yield _is_not(node, given, path)
    elif "names" in node:
        yield from _faults_of_names(node, given, path)
        keys = [key for key, _ in leaves(given)] if node["names"] == "key" else map(str, given)
        for key in (key for key, count in Counter(keys).items() if count > 1):
            yield f"{_below(path, key)}: is set twice"
    elif "keys" in node:
        yield from _faults_of_keys(node["keys"], given, path)
    else:
        kinds = node["kinds"]
        kind = {"kind": next(iter(kinds.values()))["kind"]}
        wrong = list(_faults_of_keys(kind, {k: v for k, v in given.items() if k == "kind"}, path))
        yield from wrong or _faults_of_keys(kinds[given["kind"]], given, path)


def _faults_of_keys(keys: Mapping[str, Node], given: Node, path: str) -> Iterator[str]:
    misspelt = {nearest(key, keys) for key in given if key not in keys}
    for key, value in given.items():
        if key in keys:
            yield from _faults(keys[key], value, _below(path, key))
        else:
            yield f"{_below(path, key)}: {unknown('unknown key', key, keys)}"
    for key, node in keys.items():
        if not {"default", "optional"} & node.keys() and key not in {*given, *misspelt}:
            yield f"{_below(path, key)}: is missing; it is {allowed(node)}"


def _faults_of_names(node: Node, given: Node, path: str) -> Iterator[str]:
    name = {"is": node["names"]}
    for key, value in given.items():
        if not _fits(name, key):
            yield f"{path}: its key {shown(key)} is not {allowed(name)}"
        elif node["names"] == "key" and isinstance(value, dict):  # MODEL: {FPN: …}
            yield from _faults_of_names(node, value, _below(path, key))
        else:
            yield from _faults(node["each"], value, _below(path, key))


def _below(path: str, key: Any) -> str:  # noqa: ANN401
    return f"{path}.{key}" if path else str(key)


def _is_not(node: Node, given: Any, path: str) -> str:  # noqa: ANN401
    near = did_you_mean(given, node.get("choices", ()))
    return f"{path or 'the file'}: {shown(given)} is not {allowed(node)}{near}"


def _fits(node: Node, given: Any) -> bool:  # noqa: ANN401
    """Whether a value is of its kind; 50.0 and true, which Python takes for 50 and 1, are not."""
    if "choices" in node:
        return any(type(given) is type(one) and given == one for one in node["choices"])
    kind = SCHEMA["kinds"][node["is"]]
    if any(type(given) is type(one) and given == one for one in kind.get("or", ())):
        return True
    match kind["type"]:
        case "text":
            numbers = (int,) if kind.get("numbers") else ()  # a name such as 90
            right = type(given) in (str, *numbers)
            return right and bool(re.fullmatch(kind["pattern"], str(given)))
        case "flag":
            return type(given) is bool
        case "setting":
            return _is_plain(given)
        case number:
            return type(given) in ((int,) if number == "whole" else (int, float)) and (
                kind.get("least", -math.inf) <= given <= kind.get("most", math.inf)
                and kind.get("above", -math.inf) < given < kind.get("below", math.inf)
            )


def _is_plain(given: Any) -> bool:  # noqa: ANN401
    """Whether JSON can say it; no mapping, as those are of keys."""
    if isinstance(given, list):
        return all(map(_is_plain, given))
    finite = not isinstance(given, float) or math.isfinite(given)
    return given is None or (isinstance(given, str | int | float) and finite)
