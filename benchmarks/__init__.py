"""How fast and how small the project is: `python -m benchmarks`, one module a row of README.md."""

import opmask  # noqa: F401  before any module here imports detectron2
