"""Where a step's time goes: seconds by part, each without the parts inside it."""

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


class Clock:
    """`with clock("part")`; nested parts do not count twice. On a GPU it waits at both ends."""

    def __init__(self, device: str):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack: list[str] = []
        self._since = 0.0

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        self._turn()
        self._stack.append(part)
        try:
            yield
        finally:
            self._turn()
            self._stack.pop()

    def _turn(self) -> None:
        """Book the time since the last turn on the part that runs."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def watch(self, owner: object, name: str, part: str) -> None:
        """Book every call of `owner.<name>` on `part`."""
        function: Callable = getattr(owner, name)

        @functools.wraps(function)
        def watched(*args: object, **kwargs: object) -> object:
            with self(part):
                return function(*args, **kwargs)

        setattr(owner, name, watched)
