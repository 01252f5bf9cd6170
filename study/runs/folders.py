"""Work folders: where trainings live until published, named by all that determines them."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from study.spec.code import code_of

DETECTIONS = "detections-*.json"  # in a work folder: made ahead of the run's stage `evaluate`
PUBLISHED = "published"  # in a work folder: the finished run, ready to be moved


def folder(label: str, module: str, content: Any, files: Sequence[Path]) -> Path:
    """`work/<label>-<hash>`: the hash covers `content`, the files that exist, and the code that
    `module` rests on: a checkpoint is resumed only by the code that wrote it."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    digest.update(code_of(module).encode())
    for path in files:
        if path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return Path("work", f"{label}-{digest.hexdigest()[:12]}")
