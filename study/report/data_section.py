"""What a report says of the data: counts, class splits, whose drawings they are."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from study import format as markdown


def data_section(manifest: Mapping[str, Any], splits: Mapping[str, Any], credits: str) -> str:
    """Section "Data" from the stages' JSON, `data/<scale>/manifest.json` and `splits.json`.

    Empty if there is no manifest; `credits` are of the embedded data set, or empty.
    """
    sets = {name: manifest.get(name, {}).get("counts", {}) for name in ("train", "val")}
    if not any(sets.values()):
        return ""
    keys = dict.fromkeys(key for counts in sets.values() for key in counts)
    rows = [
        {"Set": name} | {key.replace("_", " "): f"{counts.get(key, 0):,}" for key in keys}
        for name, counts in sets.items()
    ]
    parts = ["## Data", markdown.table(pd.DataFrame(rows)), _splits(splits)]
    if credits:
        parts += ["Credits:", "\n".join(f"> {line}" for line in credits.splitlines())]
    return "\n\n".join(part for part in parts if part)


def _splits(splits: Mapping[str, Any]) -> str:
    """Classes and masks of the splits; `train_masks` of novel classes never reach training."""
    rows = []
    for name, split in splits.items():
        supervised, novel = split["supervised"], split["novel"]
        rows.append(
            {
                "Split": name,
                "Supervised classes": len(supervised["names"]),
                "Masks in training": f"{supervised['train_masks']:,}",
                "Novel classes": len(novel["names"]),
                "Novel objects in val": f"{novel['val_instances']:,}",
            }
        )
    return markdown.table(pd.DataFrame(rows)) if rows else ""
