"""Whether detectron2 has the settings that parameters override, and builds what they describe.

Needs detectron2, which takes seconds to import, so stage `plan` alone asks, and only where
something differs from the paper.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import ROI_HEADS_REGISTRY, ROI_MASK_HEAD_REGISTRY, build_model
from detectron2.solver import build_optimizer

from opmask.errors import UserError
from opmask.model.config import (
    COMPONENTS,
    NO_MASK_HEAD,
    add_components,
    add_opmask_config,
    paper_config,
)
from opmask.model.roi_heads import OPMaskROIHeads, PriorMaskHead
from opmask.training import warm_start  # noqa: F401 - registers what phases name
from opmask.training.schedule import build_exact_lr_scheduler
from study.spec.dotted import leaves
from study.spec.run import all_runs
from study.spec.schema import in_file
from study.spec.schema.words import did_you_mean, one_line, shown, unknown

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a decimal point",
    str: "text",
    list: "a list",
    tuple: "a list",
}


def check_overrides(params: Mapping[str, Any]) -> None:
    """Raises UserError unless detectron2, with OPMask's keys and those of a method's components,
    has every setting of the methods, of the scale in use and of its warm start, and takes the
    value, and there are all components and heads; names the key and the nearest that exists."""
    found = [
        in_file(f"{path}: {fault}") for path, fault in (*_methods(params), *_of_the_scale(params))
    ]
    if found:
        raise UserError(one_line(found))


def _methods(params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, method in params["methods"].items():
        cfg = _defaults()
        if "components" in method:
            try:
                add_components(cfg, method["components"])
            except ValueError as error:
                yield f"methods.{name}", str(error)
                continue
        for key, base in (("mask_head", PriorMaskHead), ("roi_heads", OPMaskROIHeads)):
            known = _heads(base, cfg.MODEL.OPMASK.COMPONENTS)
            if key in method and method[key] not in known:
                fault = unknown(f"{shown(method[key])} is unknown", method[key], known)
                yield f"methods.{name}.{key}", fault
        yield from _faults(f"methods.{name}.config", method.get("config", {}), cfg)


def _heads(base: type, components: str) -> list[str]:
    """Registered heads like `base`, which keep masks of novel classes out of training.

    None that another method's components registered: they may not be there when this one trains,
    and its results would rest on them unseen.
    """
    registry = ROI_MASK_HEAD_REGISTRY if base is PriorMaskHead else ROI_HEADS_REGISTRY
    heads = [(name, one) for name, one in registry if isinstance(one, type)]
    known = [
        name
        for name, head in heads
        if issubclass(head, base)
        and (head.__module__ == components or not COMPONENTS.fullmatch(head.__module__))
    ]
    return [*([NO_MASK_HEAD] if base is PriorMaskHead else []), *sorted(known)]


def _of_the_scale(params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    cfg = _defaults()
    for path, config in _configs(params):
        yield from _faults(path, config, cfg)


def _defaults() -> CfgNode:
    cfg = get_cfg()
    add_opmask_config(cfg)
    return cfg


def _faults(path: str, config: Mapping[str, Any], cfg: CfgNode) -> Iterator[tuple[str, str]]:
    known = dict(leaves(cfg))
    for key, value in config.items():
        if fault := _fault(key, cfg._decode_cfg_value(value), known):
            yield f"{path}.{key}", fault


def _configs(params: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    scale = params["scales"][params["scale"]]
    yield f"scales.{params['scale']}.config", scale["config"]
    for backbone, recipe in scale["warm_start"].items():
        for number, phase in enumerate(recipe["phases"]):
            yield f"scales.{params['scale']}.warm_start.{backbone}.phases.{number}", phase


def check_models(params: Mapping[str, Any]) -> None:
    """Raises UserError unless detectron2 can build the model, the optimiser and the schedule of
    every planned method with its backbone, and of every phase of the warm start.

    On torch's device `meta`, which has shapes and no values: half a second for all.
    """
    name = params["scale"]
    scale, backbones = params["scales"][name], params["backbones"]
    where = f"scales/{name}.yaml: "
    for method, backbone in sorted({(run.method, run.backbone) for run in all_runs(params)}):
        settings = params["methods"][method], backbones[backbone], scale["config"]
        _build(*settings, f"{where}config: {method}-{backbone}")
    for backbone, recipe in scale["warm_start"].items():
        for number, phase in enumerate(recipe["phases"]):
            settings = {"mask_head": "none"}, backbones[backbone], {**scale["config"], **phase}
            _build(*settings, f"{where}warm_start.{backbone}.phases.{number}")


def _build(
    method: Mapping[str, Any], backbone: Mapping[str, Any], config: Mapping[str, Any], where: str
) -> None:
    try:
        cfg = paper_config(
            method=method, backbone=backbone, supervised=[0], num_classes=2, overrides=config
        )
        cfg.MODEL.DEVICE = "meta"
        with torch.device("meta"):
            model = build_model(cfg)
        build_exact_lr_scheduler(cfg, build_optimizer(cfg, model))
    except UserError:
        raise
    except Exception as error:  # whatever detectron2 makes of a value that it cannot use
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{where}: cannot be built with these settings ({reason})") from error


def _fault(key: str, value: Any, known: Mapping[str, Any]) -> str:  # noqa: ANN401
    if key not in known:
        return f"detectron2 has no such key{did_you_mean(key, known)}"
    default = known[key]
    if default is None or _is_like(value, default):
        return ""
    return f"{shown(value)} is not {_WORDS[type(default)]}, as is {shown(default)}"


def _is_like(value: Any, default: Any) -> bool:  # noqa: ANN401
    """Whether detectron2 takes `value` for `default`; of what is in lists it asks nothing itself,
    and a whole number is as good there."""
    if not isinstance(default, list | tuple):
        return type(value) is type(default)
    return isinstance(value, list | tuple) and (not default or _all_like(value, default))


def _all_like(values: Sequence[Any], defaults: Sequence[Any]) -> bool:
    if isinstance(defaults[0], list | tuple):
        return all(_is_like(value, defaults[0]) for value in values)
    kinds = {type(default) for default in defaults}
    kinds |= {int, float} if kinds & {int, float} else set()
    return all(type(value) in kinds for value in values)
