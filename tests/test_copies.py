"""What is checked and copied in blocks is what the whole file gives."""

import copy
import json

import pytest
from coco_samples import CONTENT, write

from opmask.data import cleaning, streaming
from opmask.data.checks import check, load_categories
from opmask.data.copies import check_and_copy
from opmask.data.records import load_json
from opmask.errors import UserError

CHANGES = {
    "nothing": lambda c: None,
    "degenerate": lambda c: c["annotations"][2].update(bbox=[0, 0, 0, 3]),
    "large ids": lambda c: c["annotations"][6].update(id=2**60),
    "huge ids": lambda c: [a.update(id=2**70 + a["id"]) for a in c["annotations"]],
    "negative images": lambda c: c["images"].append(c["images"][0] | {"id": -1}),
    "twice": lambda c: c["annotations"].append(c["annotations"][0]),
    "no class": lambda c: c["annotations"][-1].update(category_id=5),
    "no image": lambda c: c["annotations"][-1].update(image_id=4),
    "field": lambda c: c["annotations"][5].pop("bbox"),
    "field and class": lambda c: [
        c["annotations"][0].update(category_id=5),
        c["images"][1].clear(),
    ],
    "names": lambda c: c["categories"][0].update(name="cat"),
    "mask": lambda c: c["annotations"][6].update(segmentation=[[0, 0, "x", 1, 2, 3]]),
}


def outcome(annotations, images):
    try:
        return check(annotations, images, on_degenerate="skip")
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("order", [list, lambda items: list(items)[::-1]])
@pytest.mark.parametrize("change", CHANGES)
def test_blocks_do_not_matter(tmp_path, monkeypatch, change, order):
    content = copy.deepcopy(CONTENT)
    CHANGES[change](content)
    file, images = write(tmp_path, dict(order(content.items())))
    whole, made = outcome(file, images), tmp_path / "copy.json"
    monkeypatch.setattr(streaming, "_BLOCKS", (250, 10_000))
    blocks = [found for key, found in streaming.read_blocks(file) if key == "annotations"]
    assert len(blocks) > 2 or change in ("huge ids", "field and class")
    assert outcome(file, images) == whole
    try:
        summary, _, categories = check_and_copy(file, images, made, "header", "skip", ())
    except UserError as error:
        assert str(error) == whole and not list(tmp_path.glob("*copy*"))
        return
    assert summary == whole
    assert json.loads(made.read_text()) == cleaning.renumber(cleaning.clean(load_json(file)))
    assert sorted(categories, key=lambda c: c["id"]) == load_categories(file)
