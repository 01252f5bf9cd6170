"""Comparisons that hold on a busy machine: in turn, within one run, medians over repeats."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd
from tqdm import tqdm


@dataclass(frozen=True)
class Seconds:
    """Of several actions, a column each, a row a round: on the wall clock, and of processor time.

    With one thread they are equal on an idle machine; on a busy one the latter tells more.
    """

    wall: pd.DataFrame
    cpu: pd.DataFrame

    def median(self, action: str) -> dict[str, float]:
        """`wall_s` and `cpu_s` of an action."""
        return {"wall_s": self.wall[action].median(), "cpu_s": self.cpu[action].median()}

    def ratio(self, over: str, under: str) -> dict[str, float]:
        """Medians over the rounds of `over`'s seconds / `under`'s: `ratio` and `cpu_ratio`."""
        return {
            "ratio": (self.wall[over] / self.wall[under]).median(),
            "cpu_ratio": (self.cpu[over] / self.cpu[under]).median(),
        }


def interleaved(
    actions: Mapping[str, Callable[[], float | None]], repeats: int, description: str = ""
) -> Seconds:
    """Seconds of every action.

    All are called once before it counts. Every second round goes backwards, so that a slow spell
    of the machine meets first and last alike. An action that does its work in another process
    returns the processor time it took there; else it is this process's and its children's.
    """
    for action in actions.values():
        action()
    wall, cpu = [], []
    for number in tqdm(range(repeats), desc=description, unit="round", disable=None):
        order = list(actions)[:: -1 if number % 2 else 1]
        times = {name: _timed(actions[name]) for name in order}
        wall.append({name: seconds for name, (seconds, _) in times.items()})
        cpu.append({name: seconds for name, (_, seconds) in times.items()})
    columns = list(actions)
    return Seconds(pd.DataFrame(wall, columns=columns), pd.DataFrame(cpu, columns=columns))


def _timed(action: Callable[[], float | None]) -> tuple[float, float]:
    before, start = _processor(), time.perf_counter()
    elsewhere = action()
    wall = time.perf_counter() - start
    return wall, _processor() - before if elsewhere is None else elsewhere


def _processor() -> float:
    """Seconds of processor time of this process and the children it has waited for."""
    return sum(os.times()[:4])
