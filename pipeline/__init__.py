"""Stages of the DVC pipeline: thin command lines over `opmask`, one module a stage."""

import json
import os
from pathlib import Path
from typing import Any

RUN_HELP = "METHOD-BACKBONE-SUPERVISED[-SCHEDULE]-SEED, e.g. opmask-R50-voc-0"


def write_json(path: Path, content: Any) -> None:
    """Writes `content` to `path` whole or not at all, creating folders as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)
