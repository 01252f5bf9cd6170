"""Measurements of speed: one command a question, results as CSV."""

import opmask  # noqa: F401  before any benchmark imports detectron2
