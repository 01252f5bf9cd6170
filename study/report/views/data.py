"""What a report says of the data: counts, class splits, whose drawings they are."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from study.report.blocks import Block, Table


def blocks(manifest: Mapping[str, Any], splits: Mapping[str, Any]) -> list[Block]:
    """From the stages' JSON, `data/<scale>/manifest.json` and `splits.json`; empty if there is no
    manifest. `train_masks` of novel classes never reach training."""
    sets = {name: manifest.get(name, {}).get("counts", {}) for name in ("train", "val")}
    if not any(sets.values()):
        return []
    keys = dict.fromkeys(key for counts in sets.values() for key in counts)
    rows = [
        {"Set": name} | {key.replace("_", " "): f"{counts.get(key, 0):,}" for key in keys}
        for name, counts in sets.items()
    ]
    classes = [
        {
            "Split": name,
            "Supervised classes": len(split["supervised"]["names"]),
            "Masks in training": f"{split['supervised']['train_masks']:,}",
            "Novel classes": len(split["novel"]["names"]),
            "Novel objects in val": f"{split['novel']['val_instances']:,}",
        }
        for name, split in splits.items()
    ]
    return [Table(pd.DataFrame(found)) for found in (rows, classes) if found]
