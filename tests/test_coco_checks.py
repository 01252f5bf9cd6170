"""The data contract: every way to break it is reported, in one line that names the place."""

import copy

import numpy as np
import pytest
from coco_samples import CONTENT, CROWD, HEIGHT, WIDTH, box, write
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as mask_util

from opmask.data import coco
from opmask.data.shapes import decode_rles, rle_pixels
from opmask.errors import UserError


@pytest.fixture
def content() -> dict:
    return copy.deepcopy(CONTENT)


def test_check_counts_what_is_there(tmp_path, content):
    content["annotations"].append(box(8, 9, 4, [[1, 1, 2, 2]], bbox=[0, 0, 0, 5]))
    summary = coco.check(*write(tmp_path, content), on_degenerate="skip", images="decode")
    assert (summary.images, summary.annotations) == (4, 8)
    assert (summary.with_masks, summary.crowd, summary.degenerate) == (6, 2, 1)
    assert summary.instances_by_category == {18: 2, 4: 3}  # no crowd, nothing degenerate
    assert summary.masks_by_category == {18: 2, 4: 2}


def edit(*path, value=None, remove=False):
    """A change to a COCO dict: sets, or removes, what lies at `path`."""

    def apply(content: dict) -> None:
        *parents, last = path
        for key in parents:
            content = content[key]
        if remove:
            del content[last]
        else:
            content[last] = value

    return apply


MASK = ("annotations", 0, "segmentation")
BOX = ("annotations", 0, "bbox")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit("annotations", remove=True), "lacks the top-level list 'annotations'"),
        (edit("images", value={}), "lacks the top-level list 'images'"),
        (edit("annotations", 0, "bbox", remove=True), r"'bbox' missing .*annotations\[0\]"),
        (edit("images", 1, "width", value="40"), r"'width' missing .*: images\[1\]"),
        (edit("categories", 0, value=3), r"record is not an object .*categories\[0\]"),
        (edit("images", 1, "height", value=0), "without width or height: image 3"),
        (edit("images", 1, "id", value=7), "duplicate id in 'images': 7"),
        (edit("annotations", 1, "id", value=1), "duplicate id in 'annotations': 1"),
        (edit("categories", 1, "id", value=18), "duplicate id in 'categories': 18"),
        (edit("annotations", 0, "category_id", value=5), r"annotation 1 \(category 5\)"),
        (edit("annotations", 0, "image_id", value=8), r"annotation 1 \(image 8\)"),
        (edit(*BOX, value=[1, 2, 3]), "not four finite numbers.*: annotation 1"),
        (edit(*BOX, value=[1, 2, 3, float("nan")]), "not four finite numbers.*: annotation 1"),
        (edit(*BOX, value=[1, 2, 3, "4"]), "not four finite numbers.*: annotation 1"),
        (edit(*BOX, value=[1, 2, 0, 4]), r"box without area .*annotation 1 \[1, 2, 0, 4\]"),
        (edit(*BOX, value=[1, 2, 3, -4]), "box without area .*annotation 1"),
        (edit(*BOX, value=[WIDTH, 2, 3, 4]), "outside its image .*annotation 1"),
        (edit(*BOX, value=[1, -4, 3, 4]), "outside its image .*annotation 1"),
        (edit(*MASK, value=[[1, 1, 2, 2]]), "fewer than 3 points .*annotation 1"),
        (edit(*MASK, value=[[1, 1, 2, 2, 3, 3, 4]]), "odd length .*annotation 1"),
        (edit(*MASK, 0, 0, value=float("inf")), "not a list of finite .*annotation 1"),
        (edit(*MASK, value=[1, 1, 2, 2, 3, 3]), "not a list of finite .*annotation 1"),
        (edit(*MASK, value="x"), "neither polygons nor RLE: annotation 1"),
        (edit(*MASK, value=CROWD | {"size": [WIDTH, HEIGHT]}), "RLE size .*annotation 1"),
        (edit(*MASK, value={"size": [HEIGHT, WIDTH]}), "RLE without counts: annotation 1"),
        (edit(*MASK, value=CROWD | {"counts": [3, 4]}), "do not add up .*annotation 1"),
        (edit(*MASK, value=CROWD | {"counts": [-3, 4]}), "malformed counts: annotation 1"),
        (edit(*MASK, value=CROWD | {"counts": "é"}), "malformed counts: annotation 1"),
    ],
)
def test_check_names_every_break_of_the_contract(tmp_path, content, change, message):
    change(content)
    annotations, images = write(tmp_path, content)
    with pytest.raises(UserError, match=message) as caught:
        coco.check(annotations, images)
    assert str(caught.value).startswith(str(annotations))
    assert "\n" not in str(caught.value)


def test_degenerate_shapes_are_skipped_on_request_but_malformed_ones_never(tmp_path, content):
    content["annotations"][0]["bbox"] = [1, 2, 0, 4]
    content["annotations"][1]["segmentation"] = [[1, 1, 2, 2]]
    paths = write(tmp_path, content)
    assert coco.check(*paths, on_degenerate="skip").degenerate == 2
    content["annotations"][2]["bbox"] = [1, 2, 3]
    with pytest.raises(UserError, match="four finite numbers.*: annotation 3 .1, 2, 3.$"):
        coco.check(*write(tmp_path, content), on_degenerate="skip")


def test_many_problems_make_one_line_with_a_count(tmp_path, content):
    content["annotations"] = [box(i, 7, 4, bbox=[1, 1, 0, 1]) for i in range(15)]
    with pytest.raises(UserError, match="annotation 0 .*annotation 2 .*and 12 more") as caught:
        coco.check(*write(tmp_path, content))
    assert "annotation 3 " not in str(caught.value)


@pytest.mark.parametrize("field", ["area", "iscrowd", "segmentation"])
def test_ground_truth_must_be_complete(tmp_path, content, field):
    del content["annotations"][2]
    paths = write(tmp_path, content)
    assert coco.check(*paths, for_evaluation=True).with_masks == 6
    del content["annotations"][0][field]
    with pytest.raises(UserError, match="which evaluation needs: annotation 1$"):
        coco.check(*write(tmp_path, content), for_evaluation=True)


def test_check_names_an_unreadable_annotation_file(tmp_path, content):
    annotations, images = write(tmp_path, content)
    with pytest.raises(UserError, match="other.json: no such annotation file"):
        coco.check(tmp_path / "other.json", images)
    with pytest.raises(UserError, match="nowhere: no such image folder"):
        coco.check(annotations, tmp_path / "nowhere")
    annotations.write_text(annotations.read_text()[:100])
    with pytest.raises(UserError, match="instances.json: is not valid JSON"):
        coco.check(annotations, images)
    annotations.write_text("[]")
    with pytest.raises(UserError, match="instances.json: must be a JSON object"):
        coco.check(annotations, images)


def test_check_finds_broken_images(tmp_path, content):
    annotations, images = write(tmp_path, content)
    whole = (images / "3.png").read_bytes()
    Image.new("RGB", (HEIGHT, WIDTH)).save(images / "3.png")
    with pytest.raises(UserError, match=r"3.png \(image 3\) is 30×40, annotated as 40×30"):
        coco.check(annotations, images)
    (images / "3.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"image unreadable: .*3.png \(image 3\)"):
        coco.check(annotations, images)
    coco.check(annotations, images, images="exist")
    (images / "3.png").write_bytes(whole[: len(whole) // 2])
    coco.check(annotations, images, images="header")
    with pytest.raises(UserError, match=r"image unreadable: .*3.png \(image 3\)"):
        coco.check(annotations, images, images="decode")
    (images / "3.png").unlink()
    with pytest.raises(UserError, match=r"image missing: .*3.png \(image 3\)"):
        coco.check(annotations, images, images="exist")


def test_image_size_is_taken_after_exif_rotation(tmp_path, content):
    # detectron2 rotates such images when it reads them
    content["images"][0]["file_name"] = "turned.jpg"
    annotations, images = write(tmp_path, content)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90°
    Image.new("RGB", (HEIGHT, WIDTH)).save(images / "turned.jpg", exif=exif)
    coco.check(annotations, images)
    Image.new("RGB", (WIDTH, HEIGHT)).save(images / "turned.jpg", exif=exif)
    with pytest.raises(UserError, match="another size"):
        coco.check(annotations, images)


SIDE = st.integers(1, 40)


PICTURES = hnp.arrays(np.uint8, st.tuples(SIDE, SIDE), elements=st.integers(0, 1))


@given(st.lists(PICTURES, max_size=4))
def test_rles_are_decoded_to_their_run_lengths(pictures):
    expected, texts = [], []
    for picture in pictures:
        flat = picture.flatten(order="F")
        changes = np.flatnonzero(np.diff(flat, prepend=0))
        expected.append(np.diff([0, *changes, len(flat)]).tolist())
        texts.append(mask_util.encode(np.asfortranarray(picture))["counts"].decode())
    runs, lengths, sound = decode_rles(texts)
    assert sound.all()
    assert [part.tolist() for part in np.split(runs, lengths.cumsum())][:-1] == expected
    rles = [{"counts": text} for text in texts] + [{"counts": runs} for runs in expected]
    assert rle_pixels(rles) == [picture.size for picture in pictures] * 2


@pytest.mark.parametrize("counts", ["p", "é", "P", "O", "PPPPPP0", [3, -1], [3.5], [True], None])
def test_counts_that_are_no_run_lengths_are_found_among_others(counts):
    """Bad characters, an unfinished or too long number, negative, no integer."""
    good = {"counts": "12"}
    assert rle_pixels([good, {"counts": counts}, good, {"counts": ""}]) == [3, -1, 3, 0]
