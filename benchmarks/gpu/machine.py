"""Part `machine`: what it is, and how fast at what models do most."""

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.gpu.setting import PRECISIONS, Row, Setting, use
from study.runs import provenance


def machine(setting: Setting) -> Iterator[Row]:
    """A row of facts, then TFLOP/s of a product and of a convolution of RoIs by precision."""
    facts = {"gpus": torch.cuda.device_count(), "cuda": torch.version.cuda, **provenance.gpu()}
    yield {"what": "facts", **facts, "cudnn": torch.backends.cudnn.version()}
    size = 8192 if setting.on_gpu else 256
    matrix = torch.randn(size, size, device=setting.device)
    maps = torch.randn(size // 16, 256, 14, 14, device=setting.device)
    weight = torch.randn(256, 256, 3, 3, device=setting.device)
    for precision in PRECISIONS:
        dtype = torch.bfloat16 if use(precision) == "bf16" else torch.float32
        a, x, w = (one.to(dtype) for one in (matrix, maps, weight))
        x = x.to(memory_format=torch.channels_last)
        for what, action, products in (
            ("product", partial(torch.mm, a, a), size**3),
            ("convolution", partial(torch.conv2d, x, w, padding=1), x.numel() * w[0].numel()),
        ):
            speed = 2e-12 * products / setting.seconds(action, 10)
            yield {"what": what, "precision": precision, "tflop_s": speed}
