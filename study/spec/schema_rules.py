"""Parameters that contradict each other or name what is not there, though each alone is good.

As `study.spec.schema`, which calls it, it can only refuse, and imports nothing that results rest on
(`study.spec.code`: exempt). Rules give `path: text` a fault.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from study.spec.schema_messages import did_you_mean, shown, unknown

if TYPE_CHECKING:
    from study.spec.schema import Method, Params, Scale, Schedule

SUPERVISED_SETS = ("voc", "nonvoc", "voc20", "all")
FORM = "METHOD-BACKBONE-SUPERVISED[-SCHEDULE], e.g. opmask-R50-voc"
# detectron2 settings that other parameters decide: in `config` they would be lost, or win.
DECIDED = {
    "MODEL.BACKBONE.NAME": "backbones",
    "MODEL.DEVICE": "hardware.gpus",
    "MODEL.MASK_ON": "methods",
    "MODEL.OPMASK.CATEGORY_IDS": "the data set",
    "MODEL.OPMASK.CLASS_NAMES": "the data set",
    "MODEL.OPMASK.PRIOR": "methods",
    "MODEL.OPMASK.PRIOR_GRADIENTS": "methods",
    "MODEL.OPMASK.SUPERVISED_CLASSES": "runs and splits",
    "MODEL.RESNETS.DEPTH": "backbones",
    "MODEL.ROI_HEADS.NUM_CLASSES": "the data set",
    "MODEL.ROI_MASK_HEAD.NAME": "methods",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": "methods",
    "MODEL.TIMM.NAME": "backbones",
    "MODEL.WEIGHTS": "backbones",
    "SEED": "seeds",
    "SOLVER.CHECKPOINT_PERIOD": "checkpoint_period",
    "SOLVER.MAX_ITER": "schedules and schedule_factor",
    "SOLVER.PRECISION": "precision",
    "SOLVER.SNAPSHOT_PERIOD": "schedules",
    "SOLVER.STEPS": "schedules and schedule_factor",
}
OF_A_PHASE = ("SOLVER.MAX_ITER",)  # a warm start has no schedule


def contradictions(params: "Params") -> Iterator[str]:
    """Every fault of parameters that are each of the right form."""
    yield from _named("scale", params.scale, params.scales)
    yield from _named("schedule", str(params.schedule), list(map(str, params.schedules)))
    yield from _once("seeds", params.seeds)
    yield from _once("schedules", list(map(str, params.schedules)))
    for name, classes in params.splits.items():
        if name in SUPERVISED_SETS:
            yield f"splits.{name}: this name is taken by a split of the paper"
        yield from _once(f"splits.{name}", classes)
    for name, backbone in params.backbones.items():
        if (backbone.resnet is None) == (backbone.timm is None):
            yield f"backbones.{name}: has not one of the keys resnet and timm"
    for name, method in params.methods.items():
        yield from (f"methods.{name}.{text}" for text in _method(method))
    for label, schedule in params.schedules.items():
        yield from (f"schedules.{label}.{text}" for text in _schedule(schedule))
    yield from (f"hardware.{text}" for text in _hardware(params))
    for name, scale in params.scales.items():
        yield from (f"scales.{name}.{text}" for text in _scale(scale, params.backbones))
    yield from _runs(params)


def _named(path: str, name: str, known: Collection[Any]) -> Iterator[str]:
    if name not in known:
        yield f"{path}: {shown(name)} is {unknown('unknown', name, known)}"


def _once(path: str, names: Sequence[Hashable]) -> Iterator[str]:
    twice = [str(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        yield f"{path}: named more than once: {', '.join(twice)}"


def _method(method: "Method") -> Iterator[str]:
    if method.mask_head != "none" and method.mask_convs is None:
        yield "mask_convs: is missing, as there is a mask_head; it is a whole number, at least 1"
    if method.prior and method.mask_head == "none":
        yield "prior: true needs a mask_head"
    if method.prior and "mask_gradients" not in method.model_fields_set:
        yield "mask_gradients: is missing, as prior is true; it is true or false"
    if method.mask_gradients and not method.prior:
        yield "mask_gradients: true needs prior: true"
    yield from _decided("config", method.config, DECIDED)


def _schedule(schedule: "Schedule") -> Iterator[str]:
    ends = [*schedule.steps, schedule.max_iter]
    if any(first >= second for first, second in pairwise(ends)):
        yield f"steps: {shown(schedule.steps)} do not ascend to below max_iter, {schedule.max_iter}"
    if schedule.snapshot_period and not schedule.hold_out:
        yield "snapshot_period: needs hold_out: true, as images held out choose between snapshots"


def _hardware(params: "Params") -> Iterator[str]:
    hardware = params.hardware
    if hardware.machine_rank >= hardware.machines:
        yield f"machine_rank: {hardware.machine_rank} is not below machines, {hardware.machines}"
    if hardware.machines > 1 and hardware.dist_url == "auto":
        yield f"dist_url: auto is for one machine; {hardware.machines} need tcp://HOST:PORT"


def _scale(scale: "Scale", backbones: Collection[str]) -> Iterator[str]:
    yield from _decided("config", scale.config, DECIDED)
    images = scale.data.train_images
    if isinstance(images, int) and scale.held_out_images >= images:
        yield f"held_out_images: {scale.held_out_images} is not below data.train_images, {images}"
    before: list[str] = []
    for name, recipe in scale.warm_start.items():
        yield from _named("warm_start", name, backbones)
        if recipe.deepen is not None and recipe.deepen not in before:
            near = did_you_mean(recipe.deepen, before)
            above = ", ".join(before) or "there is none"
            yield (
                f"warm_start.{name}.deepen: {recipe.deepen!r} is no backbone above it in the same "
                f"warm_start{near} ({above})"
            )
        before.append(name)
        own = {key: by for key, by in DECIDED.items() if key not in OF_A_PHASE}
        for number, phase in enumerate(recipe.phases):
            yield from _decided(f"warm_start.{name}.phases.{number}", phase, own)


def _decided(path: str, config: Mapping[str, Any], decided: Mapping[str, str]) -> Iterator[str]:
    for key in config:
        if key in decided:
            yield f"{path}.{key}: is not set here: {decided[key]} decides it"


def _runs(params: "Params") -> Iterator[str]:
    yield from _once("runs", params.runs)
    scale = params.scales.get(params.scale)
    splits = [*SUPERVISED_SETS, *params.splits]
    for run in params.runs:
        parts = run.split("-")
        if len(parts) not in (3, 4):
            yield f"runs: {shown(run)} is not {FORM}"
            continue
        schedules = list(map(str, params.schedules))
        known: tuple[Collection[str], ...] = (params.methods, params.backbones, splits, schedules)
        kinds = ("method", "backbone", "split", "schedule")
        wrong = [
            f"runs: {run}: {kind}: {part!r} is {unknown('unknown', part, names)}"
            for kind, part, names in zip(kinds, parts, known, strict=False)
            if part not in names
        ]
        yield from wrong
        if not wrong and scale:
            yield from _usable(run, parts, params, scale)


def _usable(run: str, parts: Sequence[str], params: "Params", scale: "Scale") -> Iterator[str]:
    """Whether the scale has what a run needs: initial weights, images to hold out."""
    backbone = parts[1]
    no_weights = "weights" not in params.backbones[backbone].model_fields_set
    if scale.warm_start and backbone not in scale.warm_start and no_weights:
        yield (
            f"runs: {run}: backbones.{backbone} has neither `weights` nor a warm start at scale "
            f"{params.scale}, where {', '.join(scale.warm_start)} have"
        )
    schedules = {str(name): one for name, one in params.schedules.items()}
    schedule = schedules[parts[3]] if len(parts) == 4 else schedules.get(str(params.schedule))
    if schedule and schedule.hold_out and not scale.held_out_images:
        yield f"runs: {run}: holds images out, and scales.{params.scale}.held_out_images is 0"
