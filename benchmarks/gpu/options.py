"""Part `options`: what training does not do, measured here alone; an option is worth wiring once a
GPU has shown a gain."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from benchmarks.gpu.setting import Row, Setting
from benchmarks.gpu.steps import timed
from benchmarks.session import Job, Session
from opmask.data.coco import load_training_dicts
from opmask.data.loader import build_loader
from study.runs.jobs import training_data

WORKERS = (0, 1, 2, 4, 8, 16)  # image loaders


def options(setting: Setting) -> Iterator[Row]:
    """A step in bf16 as it is and with each option; then images a second of the loader alone."""
    batch = setting.batches[0]
    for what, change in changes(setting.on_gpu).items():
        about = {"what": what, "scale": setting.scale, "batch": batch}
        job = setting.timed_job("opmask", "bf16", batch)
        yield setting.attempt(about, partial(timed, setting, job, change))
        torch.backends.cudnn.benchmark = False
    for workers in WORKERS if setting.on_gpu else WORKERS[:2]:
        about = {"what": f"loader, {workers} workers", "scale": setting.scale, "batch": batch}
        yield setting.attempt(about, partial(_loader, setting, workers, batch))


def changes(on_gpu: bool) -> dict[str, Callable[[Session], None] | None]:
    """What each option does to a session, by name. A CPU compiles with Dynamo alone, as Inductor
    would need a C++ compiler."""
    inductor = {"backend": "inductor"} if on_gpu else {"backend": "eager"}
    graphs = {"mode": "reduce-overhead"} if on_gpu else inductor
    parts = {"backbone": "backbone.bottom_up", "box head": "roi_heads.box_head"}
    parts |= {"mask head": "roi_heads.mask_head.layers", "RPN head": "proposal_generator.rpn_head"}
    found: dict[str, Callable[[Session], None] | None] = {
        "as it is": None,
        "fused optimiser": _fuse,
        "default layout": _default_layout,
        "cudnn.benchmark": _benchmark,
    }
    for name, path in parts.items():
        found[f"compiled {name}"] = partial(_compile, [path], dynamic=True, **inductor)
    found["CUDA graphs of the backbone"] = partial(_compile, [parts["backbone"]], **graphs)
    found["all compiled"] = partial(_compile, list(parts.values()), dynamic=True, **inductor)
    return found


def _fuse(session: Session) -> None:
    for group in session.optimizer.param_groups:
        group["fused"], group["foreach"] = True, False


def _default_layout(session: Session) -> None:
    session.model.to(memory_format=torch.contiguous_format)


def _benchmark(_session: Session) -> None:
    torch.backends.cudnn.benchmark = True


def _compile(paths: list[str], session: Session, **how: object) -> None:
    """Compile parts of the model; the last name of a path is a module, or a method of one."""
    torch._dynamo.reset()
    for path in paths:
        owner, _, name = path.rpartition(".")
        parent = session.model.get_submodule(owner)
        part = getattr(parent, name)
        if isinstance(part, torch.nn.Module):
            part.compile(**how)
        else:
            vars(parent)[name] = torch.compile(part, **how)


def _loader(setting: Setting, workers: int, batch: int) -> Row:
    """As a training has it, on drawn images of photographs' size; a GPU's memory is pinned."""
    images = setting.images(640 if setting.on_gpu else 160)
    job = Job("opmask", scale=setting.scale, device=setting.device, batch=batch, data=str(images))
    manifest = job.manifest()
    cfg, specification = job.config(manifest)
    cfg.INPUT.MASK_FORMAT = "bitmask"  # as the drawn images have them
    data = replace(training_data(specification, manifest), held_out=0)
    dicts, _ = load_training_dicts(data.annotations, data.images, data.supervised_ids)
    batches = iter(build_loader(dicts, cfg, workers=workers))
    share = max(1, workers)  # a batch of each worker
    seconds = setting.seconds(lambda: [next(batches) for _ in range(share)], 3)
    return {"images_per_s": share * batch / seconds}
