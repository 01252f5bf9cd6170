"""`params.yaml: hardware`: what it means on the machine at hand."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil

from opmask.errors import UserError

MEMORY_A_RUN = 2 * 2**30  # bytes, of a training at a small scale on CPU

# glibc gives large blocks back to the system at once and pays for each page when it takes them
# again: a tenth of a step.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}


@dataclass(frozen=True)
class Hardware:
    """Where to train: `params.yaml: hardware`. `gpus` 0 means CPU, by `processes` processes."""

    gpus: int = 0
    processes: int = 1
    machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"
    workers: int = 0

    @property
    def device(self) -> str:
        """detectron2's `MODEL.DEVICE`."""
        return "cuda" if self.gpus else "cpu"

    @property
    def ranks(self) -> int:
        """Processes that train a run on this machine, one a GPU."""
        return self.gpus or self.processes

    @property
    def world(self) -> int:
        """Processes that train a run on all machines."""
        return self.ranks * self.machines


def hardware_here(settings: Mapping[str, Any]) -> Hardware:
    """`settings`, of params.yaml, with `auto` replaced by what this machine has. Imports torch.

    Raises:
        UserError: more GPUs asked for than there are.
    """
    import torch

    present = torch.cuda.device_count()
    gpus = present if settings["gpus"] == "auto" else int(settings["gpus"])
    if gpus > present:
        raise UserError(f"params.yaml: hardware.gpus: {gpus} asked for, {present} present")
    workers = int(settings["workers"]) if gpus else 0
    rest = {key: settings[key] for key in ("machines", "machine_rank", "dist_url")}
    return Hardware(gpus=gpus, processes=settings.get("processes", 1), workers=workers, **rest)


def places(hardware: Mapping[str, Any], gpus_present: int) -> list[dict[str, str]]:
    """The environment of each run that may train at the same time (`params.yaml: hardware`).

    `side_by_side: auto` is one run with GPUs (it uses them all), else one a core as memory allows,
    or one every `processes` cores. GPUs are those that an inherited CUDA_VISIBLE_DEVICES names.

    Raises:
        UserError: more runs side by side than there are GPUs for, or no natural number.
    """
    wanted, gpus = hardware["side_by_side"], hardware["gpus"]
    processes = hardware.get("processes", 1)
    cores = len(psutil.Process().cpu_affinity()) if sys.platform == "linux" else os.cpu_count() or 1
    on_cpu = gpus == 0 or gpus_present == 0
    if wanted == "auto":
        free = psutil.virtual_memory().available // MEMORY_A_RUN
        wanted = (
            max(1, min(cores, free) // processes) if on_cpu and hardware["machines"] == 1 else 1
        )
    if not isinstance(wanted, int) or wanted < 1:
        raise UserError(f"params.yaml: hardware.side_by_side: {wanted!r} is not auto, 1, 2, …")
    if on_cpu:
        threads = max(1, cores // (wanted * processes))
        return [{"OMP_NUM_THREADS": str(threads), **KEEP_MEMORY}] * wanted
    each = gpus_present // wanted if gpus == "auto" else gpus
    if each < 1 or each * wanted > gpus_present:
        raise UserError(
            f"params.yaml: hardware.side_by_side: {wanted} runs with {max(each, 1)} GPUs each "
            f"need more than the {gpus_present} present"
        )
    inherited = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = inherited.split(",") if inherited else [str(number) for number in range(gpus_present)]
    shares = [names[place * each : (place + 1) * each] for place in range(wanted)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(share)} for share in shares]


def places_here(hardware: Mapping[str, Any]) -> list[dict[str, str]]:
    """`places` on this machine. Imports torch, which takes seconds."""
    import torch

    return places(hardware, torch.cuda.device_count())
