"""What is wrong with parameters, in words."""

import difflib
from collections.abc import Collection, Sequence
from typing import Any

FIRST = 3  # problems that one line names; of the others it gives the number
LONGEST = 70  # characters of a value that is shown


def one_line(found: Sequence[str]) -> str:
    """The first problems, and how many more there are."""
    more = [f"and {len(found) - FIRST} more"] if len(found) > FIRST else []
    return " ".join("; ".join([*found[:FIRST], *more]).split())


def unknown(what: str, name: Any, known: Collection[Any]) -> str:  # noqa: ANN401
    """`WHAT; did you mean 'x'? (there are …)`."""
    there = f"there are {', '.join(map(str, known))}" if known else "there is none"
    near = did_you_mean(name, known)
    return f"{what}{near} ({there})" if near else f"{what}; {there}"


def did_you_mean(name: Any, known: Collection[Any]) -> str:  # noqa: ANN401
    """`; did you mean 'x'?`, or nothing if nothing is near."""
    near = nearest(name, known)
    return f"; did you mean '{near}'?" if near else ""


def nearest(name: Any, known: Collection[Any]) -> str:  # noqa: ANN401
    """The name that is most like it, or "" if none is like it."""
    return next(iter(difflib.get_close_matches(str(name), [str(one) for one in known], n=1)), "")


def shown(value: Any) -> str:  # noqa: ANN401
    """A value as YAML has it, not too long."""
    plain = {True: "true", False: "false", None: "null"}
    text = plain[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
