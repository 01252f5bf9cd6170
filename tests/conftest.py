"""Shared set-up of the tests."""

import opmask  # noqa: F401  before any test module imports detectron2
