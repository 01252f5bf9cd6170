"""Parameters that contradict each other or name what is not there, though each alone is good.

As `study.spec.schema`, which calls it, it can only refuse, and imports nothing that results rest on
(`study.spec.code`: exempt). Rules give `path: text` a fault.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from study.spec.schema.words import did_you_mean, shown, unknown

Params = Mapping[str, Any]

SUPERVISED_SETS = ("voc", "nonvoc", "voc20", "all")
FORM = "METHOD-BACKBONE-SUPERVISED[-SCHEDULE], e.g. opmask-R50-voc"
DECIDED: dict[str, str] = yaml.safe_load(Path(__file__).with_name("decided.yaml").read_text())
OF_A_PRIOR = {"mask_gradients", "class_gradients", "prior_kind", "prior_kind_at_test",
              "prior_min_max", "prior_combined"}  # fmt: skip
OF_A_PHASE = ("SOLVER.MAX_ITER",)  # a warm start has no schedule


def contradictions(params: Params) -> Iterator[str]:
    """Every fault of parameters that are each of the right form, in the one form that
    `study.spec.params` gives them."""
    for key in ("scale", "schedule", "suite"):
        yield from _named(key, params[key], params[f"{key}s"])
    for key in ("seeds", "runs"):
        yield from _once(key, params[key])
    for name, classes in params["splits"].items():
        if name in SUPERVISED_SETS:
            yield f"splits.{name}: this name is taken by a split of the paper"
        yield from _once(f"splits.{name}", classes)
    yield from _at("hardware.", _hardware(params["hardware"]))
    for name, backbone in params["backbones"].items():
        if ("resnet" in backbone) == ("timm" in backbone):
            yield f"backbones.{name}: has not one of the keys resnet and timm"
    for name, method in params["methods"].items():
        yield from _at(f"methods.{name}.", _method(method))
    for name, schedule in params["schedules"].items():
        yield from _at(f"schedules.{name}.", _schedule(schedule))
    for name, members in params["suites"].items():
        if not members:
            yield f"suites.{name}: has no run"
        yield from _once(f"suites.{name}", members)
        for run in members:
            how = "repeated" if run in params["repeated"][name] else "once"
            yield from _at(f"suites.{name}.{how}: ", _parts(run, params))
    for name, scale in params["scales"].items():
        yield from _at(f"scales.{name}.", _scale(scale, params["backbones"]))
    if params["suite"] in params["suites"] and params["scale"] in params["scales"]:
        yield from _at("runs: ", _runs(params))


def _at(path: str, found: Iterable[str]) -> Iterator[str]:
    return (path + text for text in found)


def _named(path: str, name: str, known: Collection[Any]) -> Iterator[str]:
    if name not in known:
        yield f"{path}: {shown(name)} is {unknown('unknown', name, known)}"


def _once(path: str, names: Sequence[Hashable]) -> Iterator[str]:
    twice = [str(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        yield f"{path}: named more than once: {', '.join(twice)}"


def _method(method: Params) -> Iterator[str]:
    masks, prior = method["mask_head"] != "none", method.get("prior", False)
    if masks and "mask_convs" not in method:
        yield "mask_convs: is missing, as there is a mask_head; it is a whole number, at least 1"
    if prior and not masks:
        yield "prior: true needs a mask_head"
    if prior and "mask_gradients" not in method:
        yield "mask_gradients: is missing, as prior is true; it is true or false"
    needed = {key for key in method if key.startswith("prior_") or method[key] is True}
    for key in sorted(needed & OF_A_PRIOR):
        if not prior:
            yield f"{key}: {shown(method[key])} needs prior: true"
    kinds = [method.get(key) for key in ("prior_kind", "prior_kind_at_test")]
    if "constant" in kinds and method.get("prior_min_max", True):
        yield "prior_kind: constant needs prior_min_max: false, which else makes it 0"
    if method.get("mask_rois") == "gt" and not masks:
        yield "mask_rois: gt needs a mask_head"
    yield from _decided("config", method.get("config", {}), DECIDED)


def _schedule(schedule: Params) -> Iterator[str]:
    steps, last = schedule["steps"], schedule["max_iter"]
    if any(first >= second for first, second in pairwise([*steps, last])):
        yield f"steps: {shown(steps)} do not ascend to below max_iter, {last}"
    if schedule.get("snapshot_period") and not schedule.get("hold_out"):
        yield "snapshot_period: needs hold_out: true, as images held out choose between snapshots"


def _hardware(hardware: Params) -> Iterator[str]:
    machines, rank = hardware["machines"], hardware["machine_rank"]
    if rank >= machines:
        yield f"machine_rank: {rank} is not below machines, {machines}"
    if machines > 1 and hardware["dist_url"] == "auto":
        yield f"dist_url: auto is for one machine; {machines} need tcp://HOST:PORT"
    if machines > 1 and hardware["launcher"] == "slurm":
        yield f"machines: {machines} is not 1; with launcher slurm it is hardware.slurm.nodes"


def _scale(scale: Params, backbones: Collection[str]) -> Iterator[str]:
    yield from _once("seeds", scale["seeds"])
    yield from _decided("config", scale["config"], DECIDED)
    images, held_out = scale["data"]["train_images"], scale["held_out_images"]
    if isinstance(images, int) and held_out >= images:
        yield f"held_out_images: {held_out} is not below data.train_images, {images}"
    before: list[str] = []
    for name, recipe in scale["warm_start"].items():
        yield from _named("warm_start", name, backbones)
        deepen = recipe.get("deepen")
        if deepen is not None and deepen not in before:
            near, above = did_you_mean(deepen, before), ", ".join(before) or "there is none"
            where = f"backbone above it in the same warm_start{near} ({above})"
            yield f"warm_start.{name}.deepen: {deepen!r} is no {where}"
        before.append(name)
        if not recipe["phases"] and scale.get("initial_weights") != "shipped":
            yield f"warm_start.{name}.phases: is empty; only shipped initial_weights need none"
        own = {key: by for key, by in DECIDED.items() if key not in OF_A_PHASE}
        for number, phase in enumerate(recipe["phases"]):
            yield from _decided(f"warm_start.{name}.phases.{number}", phase, own)


def _decided(path: str, config: Params, decided: Mapping[str, str]) -> Iterator[str]:
    for key in config:
        if key in decided:
            yield f"{path}.{key}: is not set here: {decided[key]} decides it"


def _runs(params: Params) -> Iterator[str]:
    """Whether there is all that the runs name or need: initial weights, images to hold out."""
    scale, where = params["scales"][params["scale"]], f"scales/{params['scale']}.yaml"
    given = params["runs"]
    for run in given or params["suites"][params["suite"]]:
        if wrong := list(_parts(run, params)):
            yield from wrong if given else ()  # of a suite it is said there
            continue
        _, backbone, _, *schedule = run.split("-")
        warm = scale["warm_start"]
        if warm and backbone not in warm and "weights" not in params["backbones"][backbone]:
            yield (
                f"{run}: backbones.{backbone} has neither `weights` nor a warm start in {where}, "
                f"where {', '.join(warm)} have"
            )
        one = params["schedules"].get((schedule or [params["schedule"]])[0], {})
        if one.get("hold_out") and not scale["held_out_images"]:
            yield f"{run}: holds images out, and held_out_images in {where} is 0"


def _parts(run: str, params: Params) -> Iterator[str]:
    """Whether every part of a run's name is known."""
    parts = run.split("-")
    if len(parts) not in (3, 4):
        yield f"{shown(run)} is not {FORM}"
        return
    splits = [*SUPERVISED_SETS, *params["splits"]]
    known = (params["methods"], params["backbones"], splits, params["schedules"])
    kinds = ("method", "backbone", "split", "schedule")
    for kind, part, names in zip(kinds, parts, known, strict=False):
        if part not in names:
            yield f"{run}: {kind}: {part!r} is {unknown('unknown', part, names)}"
