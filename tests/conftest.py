"""Shared set-up of the tests."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # test files run side by side: a core each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import opmask  # noqa: E402, F401  before any test module imports detectron2
