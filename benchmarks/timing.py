"""Comparisons that hold on a busy machine: in turn, within one run, medians over repeats."""

import time
from collections.abc import Callable, Mapping

import pandas as pd
from tqdm import tqdm


def interleaved(
    actions: Mapping[str, Callable[[], object]], repeats: int, description: str = ""
) -> pd.DataFrame:
    """Wall seconds of every action: a column each, a row a repeat.

    All are called once before it counts. Every second round goes backwards, so that a slow spell
    of the machine meets first and last alike.
    """
    for action in actions.values():
        action()
    rows = []
    for number in tqdm(range(repeats), desc=description, unit="round", disable=None):
        row = {}
        for name in list(actions)[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            actions[name]()
            row[name] = time.perf_counter() - start
        rows.append(row)
    return pd.DataFrame(rows, columns=list(actions))


def ratio(seconds: pd.DataFrame, over: str, under: str) -> float:
    """Median over the rounds of `over`'s seconds / `under`'s."""
    return float((seconds[over] / seconds[under]).median())
