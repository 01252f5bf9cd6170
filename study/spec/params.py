"""Reads what a user may say: params.yaml, paper.yaml and the files of folder `scales`."""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from opmask.errors import UserError
from study.spec.dotted import leaves
from study.spec.schema import check_forms, check_rules

CHOICES, PAPER, SCALES = "params.yaml", "paper.yaml", "scales"
DRAWN = "opmask/miniature"  # data_root of scales that draw their images
SHIPPED = "shipped"  # `initial_weights` of a scale: its warm start has no phases
PLACES = ("train_annotations", "train_images", "val_annotations", "val_images")  # below data_root


class Loader(yaml.SafeLoader):
    """YAML as DVC, which reads the same files, has it: 1e-5 is a number, and no key comes twice."""

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


def load_params(path: Path = Path(CHOICES)) -> dict[str, Any]:
    """All parameters, of params.yaml (`path`), paper.yaml and folder `scales` beside it, resolved.

    Raises:
        UserError: a file is missing or no YAML, or says what it may not; names every such key.
    """
    found = sorted((path.parent / SCALES).glob("*.yaml"))
    files = {CHOICES: path, PAPER: path.with_name(PAPER)}
    files |= {f"{SCALES}/{scale.name}": scale for scale in found}
    return resolve({name: _read(path, name) for name, path in files.items()})


def resolve(files: Mapping[str, Any]) -> dict[str, Any]:
    """The content of the files, by name, as one mapping: the keys of params.yaml and of paper.yaml,
    `scales`, what each file there says, and `repeated`, those runs of each suite.

    What can be written in several ways has one: `runs`, `seeds` and suites are lists, names of
    schedules texts, detectron2's keys dotted. `runs` are the suite's if params.yaml has none;
    `seeds`, if it has none, those of each run by its name. Of the scale in use `warm_start` has
    only backbones that a run needs, without phases where their weights are shipped, and `data_root`
    is DRAWN if it draws its images.

    Raises:
        UserError: they say what they may not.
    """
    check_forms(files)
    params = _in_one_form(files)
    check_rules(params)
    scale = params["scales"][params["scale"]]
    repeated = () if params["runs"] else params["repeated"][params["suite"]]
    params["runs"] = params["runs"] or params["suites"][params["suite"]]
    params["seeds"] = params["seeds"] or {
        run: scale["seeds"] if run in repeated else scale["seeds"][:1] for run in params["runs"]
    }
    if scale.get("initial_weights") == SHIPPED:
        scale["warm_start"] = {name: {"phases": []} for name in scale["warm_start"]}
    needed = set(_needed(params["runs"], scale["warm_start"]))
    scale["warm_start"] = {k: v for k, v in scale["warm_start"].items() if k in needed}
    if scale["data"]["kind"] == "miniature":
        params["data_root"] = DRAWN
    return params


def data_root(params: Mapping[str, Any]) -> Path:
    """The folder of the data set, absolute, with `~` replaced.

    Raises:
        UserError: none is given, or `~NAME` is nobody's home.
    """
    if params["data_root"] is None:
        name = params["scale"]
        data = params["scales"][name]["data"]
        inside = dict.fromkeys(data[key].split("/")[0] for key in PLACES)
        raise UserError(
            f"{CHOICES}: data_root: is missing; it is for scale {name} the folder that has "
            f"{', '.join(f'{one}/' for one in inside)}, e.g. -S data_root=/path/to/{name}"
        )
    try:
        return Path(params["data_root"]).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"{CHOICES}: data_root: {params['data_root']}: {error}") from error


def require(name: str, known: Collection[str], what: str) -> None:
    """Raises UserError, listing what exists, unless `name` is among `known`."""
    if name not in known:
        raise UserError(f"{what}: {name!r} is unknown; there are {', '.join(map(str, known))}")


def _needed(runs: Collection[str], warm_start: Mapping[str, Any]) -> Iterator[str]:
    """Backbones with a warm start that `runs` begin with, and those that these deepen."""
    for name in {run.split("-")[1] for run in runs} & warm_start.keys():
        while name is not None:
            yield name
            name = warm_start[name].get("deepen")


def _read(path: Path, name: str) -> Any:  # noqa: ANN401
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise UserError(
            f"{name}: cannot be read ({error.strerror}); run from the project's root"
        ) from error
    except (UnicodeDecodeError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{name}: is not valid YAML: {error}") from error


def _in_one_form(files: Mapping[str, Any]) -> dict[str, Any]:
    params = {**files[CHOICES], **files[PAPER]}
    params |= {key: _list(params[key]) for key in ("runs", "seeds")}
    suites = params["suites"]
    params["repeated"] = {name: suite.get("repeated", []) for name, suite in suites.items()}
    params["suites"] = {
        name: [*params["repeated"][name], *suite.get("once", [])] for name, suite in suites.items()
    }
    params["schedule"] = str(params["schedule"])
    params["schedules"] = {str(name): one for name, one in params["schedules"].items()}
    params["methods"] = {name: _dotted(one) for name, one in params["methods"].items()}
    params["scales"] = {Path(name).stem: _dotted(files[name]) for name in files if "/" in name}
    for scale in params["scales"].values():
        scale["seeds"] = _list(scale.get("seeds", 0))
        scale["warm_start"] = {
            name: recipe | {"phases": [dict(leaves(phase)) for phase in recipe["phases"]]}
            for name, recipe in scale["warm_start"].items()
        }
    return params


def _list(given: Any) -> list[Any]:  # noqa: ANN401
    return given if isinstance(given, list) else [given]


def _dotted(given: dict[str, Any]) -> dict[str, Any]:
    """With the settings under `config` by dotted key."""
    return given | {key: dict(leaves(given[key])) for key in given if key == "config"}
