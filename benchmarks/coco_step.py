"""One full-size training step and inference at `coco` scale, by method and backbone.

    python -m benchmarks.coco_step [--batch 16] [--precision bf16] [--runs opmask-R50-voc …]

Inputs are synthetic: noise of 800 × 1066 pixels with 8 objects an image. Prints a table and, with
--csv FILE, writes it: seconds a step and an inference (medians of --repeats), images a second, peak
memory, parameters.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from opmask.config import paper_config
from opmask.data.splits import COCO_CLASSES, resolve
from opmask.planning.params import load_params
from opmask.planning.plan import parse_run
from opmask.training.trainer import use_precision

HEIGHT, WIDTH, OBJECTS = 800, 1066, 8
RUNS = [f"{m}-{b}-voc" for b in ("R50", "R101") for m in ("fasterrcnn", "maskrcnn", "opmask")]


def synthetic_batch(images: int, seed: int = 0) -> list[dict]:
    """`images` model inputs: uint8 noise (3, 800, 1066), boxes, classes, one polygon each."""
    rng = np.random.default_rng(seed)
    batch = []
    for _ in range(images):
        corner = rng.uniform(0, [WIDTH - 300, HEIGHT - 300], (OBJECTS, 2))
        boxes = np.hstack([corner, corner + rng.uniform(30, 300, (OBJECTS, 2))])
        polygons = [[np.array([x0, y0, x1, y0, x1, y1])] for x0, y0, x1, y1 in boxes]
        instances = Instances(
            (HEIGHT, WIDTH),
            gt_boxes=Boxes(torch.from_numpy(boxes).float()),
            gt_classes=torch.from_numpy(rng.integers(0, 80, OBJECTS)),
            gt_masks=PolygonMasks(polygons),
        )
        pixels = torch.from_numpy(rng.integers(0, 255, (3, HEIGHT, WIDTH), np.uint8))
        batch.append({"image": pixels, "instances": instances})
    return batch


def coco_model(
    name: str, precision: str, device: str
) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """The model and optimiser of a run at `coco` scale, randomly initialised."""
    params = load_params()
    run = parse_run(name, 0, {**params, "scale": "coco"})
    split = resolve(run.supervised, [{"name": n} for n in COCO_CLASSES])
    supervised = [COCO_CLASSES.index(n) for n in split.supervised]
    cfg = paper_config(
        method=params["methods"][run.method],
        backbone=params["backbones"][run.backbone],
        supervised=supervised,
        num_classes=80,
        overrides={"MODEL.DEVICE": device},
    )
    if device == "cpu" or torch.cuda.device_count() < 2:  # SyncBN needs several GPUs
        cfg.MODEL.ROI_BOX_HEAD.NORM = cfg.MODEL.ROI_MASK_HEAD.NORM = "BN"
    model = build_model(cfg).to(memory_format=torch.channels_last)
    for name, scale in model.backbone.bottom_up.named_buffers():
        if name.endswith("conv3.norm.weight"):
            scale.fill_(0.2)  # without ImageNet weights a deep frozen network would overflow
    use_precision(model, precision)
    return model, build_optimizer(cfg, model)


def training_step(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: list[dict]
) -> dict:
    """One SGD step; returns the losses."""
    model.train()
    with EventStorage():
        losses = model(batch)
    optimizer.zero_grad()
    sum(losses.values()).backward()
    optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Median wall time of `action`, the GPU's work included."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(name: str, batch: list[dict], precision: str, device: str, repeats: int) -> dict:
    """One row of the table."""
    model, optimizer = coco_model(name, precision, device)
    training_step(model, optimizer, batch)  # warms up
    step = seconds(lambda: training_step(model, optimizer, batch), repeats)
    model.eval()
    with torch.no_grad():
        inference = seconds(lambda: model([{"image": batch[0]["image"]}]), repeats)
    if device == "cuda":
        memory = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "run": name,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "precision": precision,
        "batch": len(batch),
        "step_s": round(step, 3),
        "images_per_s": round(len(batch) / step, 3),
        "inference_s": round(inference, 3),
        "peak_memory_gib": round(memory / 2**30, 2),
        "parameters_m": round(sum(p.numel() for p in model.parameters()) / 1e6, 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coco_step", description=__doc__)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--runs", nargs="+", default=RUNS)
    parser.add_argument("--csv")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = synthetic_batch(options.batch)
    rows = []
    for name in options.runs:
        rows.append(measure(name, batch, options.precision, device, options.repeats))
        print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    if options.csv:
        pd.DataFrame(rows).to_csv(options.csv, index=False)


if __name__ == "__main__":
    main()
