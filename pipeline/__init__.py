"""Stages of the DVC pipeline: thin command lines over `opmask`, one module a stage."""

import json
from pathlib import Path
from typing import Any

from opmask.integrity import write_durably

RUN_HELP = "METHOD-BACKBONE-SUPERVISED[-SCHEDULE]-SEED, e.g. opmask-R50-voc-0"


def write_json(path: Path, content: Any) -> None:
    """Writes `content` to `path` whole or not at all, creating folders as needed."""
    write_durably(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
