"""What the stages do with an annotation file that `check` has accepted."""

from pathlib import Path

from tiny import tiny_cfg

from opmask.data import coco
from opmask.data.loader import TrainingImages
from opmask.evaluation.coco_ap import evaluate


def map_all(annotations: Path, images: Path) -> None:
    """Every training image as the model gets it, with masks in both of detectron2's formats."""
    ids = [category["id"] for category in coco.load_categories(annotations)]
    dicts, _ = coco.load_training_dicts(annotations, images, ids)
    assert dicts
    objects = [o for record in dicts for o in record["annotations"]]
    has_rle = any(isinstance(o.get("segmentation"), dict) for o in objects)
    for mask_format in ("bitmask",) if has_rle else ("bitmask", "polygon"):
        mapped = TrainingImages(dicts, tiny_cfg(INPUT__MASK_FORMAT=mask_format))
        for index in range(len(mapped)):
            instances = mapped[index, 1]["instances"]
            if len(instances):
                instances.gt_masks.crop_and_resize(instances.gt_boxes.tensor, 28)


def evaluate_all(annotations: Path) -> None:
    """The ground truth as its own detections has an AP of 100 wherever there is an object."""
    data = coco.load_json(annotations)
    found = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "score": 0.5}
        | {"bbox": a["bbox"], "segmentation": _compressed(a["segmentation"], data, a["image_id"])}
        for a in data["annotations"]
        if not a["iscrowd"]
    ]
    for task in ("bbox", "segm"):
        result = evaluate(annotations, found, task=task)
        assert len(result.matches.score) <= len(found)
        table = result.per_class().set_index("category_id")
        counted = {c: 0 for c in table.index}
        for detection in found:
            counted[detection["category_id"]] += 1
        assert table["instances"].to_dict() == counted


def _compressed(mask, data: dict, image_id: int) -> dict:
    from study.analysis.ambiguity import to_rle

    image = next(i for i in data["images"] if i["id"] == image_id)
    rle = to_rle(mask, (image["height"], image["width"]))
    counts = rle["counts"]
    return rle | {"counts": counts.decode() if isinstance(counts, bytes) else counts}
