"""Reads params.yaml, the one place where a user says what to run."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from opmask.errors import UserError
from study.spec.schema import validate


class Loader(yaml.SafeLoader):
    """YAML as DVC, which reads the same file, has it: 1e-5 is a number, and no key comes twice."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        seen = set()
        for key, _ in node.value:  # before those of `<<`, which are meant to be replaced
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(None, None, f"{key.value}: twice", key.start_mark)
                seen.add(key.value)
        super().flatten_mapping(node)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load_params(path: Path = Path("params.yaml")) -> dict[str, Any]:
    """The parameters as written, which are what `study.spec.schema` allows.

    Raises:
        UserError: the file is missing or no YAML, or says what it may not; names every such key.
    """
    try:
        params = yaml.load(path.read_text(encoding="utf-8"), Loader)
        validate(params, str(path))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); run from the project's root"
        ) from error
    except (UnicodeDecodeError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: is not valid YAML: {error}") from error
    return params


def data_root(params: Mapping[str, Any]) -> Path:
    """The folder of the data set, absolute, with `~` replaced.

    Raises:
        UserError: `~NAME` is nobody's home.
    """
    try:
        return Path(params["data_root"]).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"params.yaml: data_root: {params['data_root']}: {error}") from error


def require(name: str, known: Collection[str], what: str) -> None:
    """Raises UserError, listing what exists, unless `name` is among `known`."""
    if name not in known:
        raise UserError(f"{what}: {name!r} is unknown; there are {', '.join(map(str, known))}")
