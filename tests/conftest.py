"""Shared set-up of the tests."""

import gc
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:  # test files run side by side: a core each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import opmask  # noqa: E402, F401  before any test module imports detectron2

settings.register_profile("fast lane", max_examples=20)


def pytest_collection_finish() -> None:
    """Garbage is not looked for among what all imports have made: a tenth of the tests' time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Else libraries would report what is left at the end as leaks."""
    gc.unfreeze()


def pytest_configure(config: pytest.Config) -> None:
    """Fewer examples where slow tests are left out; a number that a test gives itself stays.

    A shell's background job ignores Ctrl-C, and so would all that tests start.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "not slow" in config.getoption("markexpr"):
        settings.load_profile("fast lane")  # before test modules make settings of their own


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The DAG first, then the files with most slow tests, so that no process ends alone."""
    weights: Counter[Path] = Counter()
    for item in items:
        weights[item.path] += 1000 * ("dag" in item.keywords) + ("slow" in item.keywords)
    items.sort(key=lambda item: -weights[item.path])
