"""Training step by method, backbone, precision and device, against detectron2 and a plain one.

`opmask` is as trained by this project, `maskrcnn7` the same without the prior. `detectron2` is its
own StandardROIHeads with the same layers and our settings, `detectron2-stock` without these.
`plain` is a plain float32 transcription of the method. Loading the images is included.
"""

import pandas as pd

from benchmarks.contest import contest, seconds_each
from benchmarks.models import VARIANTS
from benchmarks.options import Options
from benchmarks.worker import Worker

STEPS = 4  # between two turns


def measure(options: Options) -> pd.DataFrame:
    """One row a variant and backbone: medians over the repeats, ratios to opmask's time."""
    return contest(options, list(VARIANTS), _rows, starts=5)


def _rows(workers: dict[str, Worker], options: Options) -> list[dict]:
    repeats = options.times(4)
    steps = 1 if options.scale == "coco" and options.device == "cpu" else STEPS
    seconds = seconds_each(workers, "train", steps, repeats, steps=steps)
    rows = []
    for name, worker in workers.items():
        about, times = worker.ask("ready"), seconds[name]
        rows.append(
            {
                "variant": name,
                **{key: about[key] for key in ("precision", "batch", "parameters_m")},
                **times,
                "images_per_s": about["batch"] / times["wall_s"],
                "peak_memory_gib": worker.ask("memory")["gib"],
                "repeats": repeats,
                "steps": steps,
            }
        )
    return rows
