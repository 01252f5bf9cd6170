"""The command that makes a report anew."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any


def command(params: Mapping[str, Any], *, own_data: bool = False) -> str:
    """`uv run dvc exp run -S scale=… …`, with all that people choose in params.yaml, since `-S`
    leaves its values there: what the file says by then must not matter.

    own_data: the folder is named by a placeholder; where it lies is the user's business, and
    reports are tracked by git.
    """
    suites = params.get("suites", {})
    runs = list(params["runs"]) or list(suites[params["suite"]])
    suite = next((name for name, names in suites.items() if list(names) == runs), None)
    chosen = {"scale": params["scale"], "schedule": params["schedule"]}
    chosen |= {"suite": suite, "runs": "[]"} if suite else {"runs": _list(runs)}
    chosen["seeds"] = _list(params["seeds"] if isinstance(params["seeds"], list) else ())
    if own_data:
        chosen["data_root"] = "/path/to/data"
    settings = (shlex.quote(f"{key}={value}") for key, value in chosen.items())
    return " ".join(["uv run dvc exp run", *(f"-S {setting}" for setting in settings)])


def _list(values: Sequence[object]) -> str:
    return f"[{','.join(map(str, values))}]"
