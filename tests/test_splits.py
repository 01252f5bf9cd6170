"""Class splits against detectron2's category table and hand-worked cases."""

import pytest
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

from opmask.data.splits import COCO_CLASSES, SUPERVISED_SETS, available, resolve
from opmask.errors import UserError

CATEGORIES = [c for c in COCO_CATEGORIES if c["isthing"]]
# COCO ids of the Pascal VOC classes, from the partially supervised literature (Mask^X R-CNN).
VOC_IDS = {1, 2, 3, 4, 5, 6, 7, 9, 16, 17, 18, 19, 20, 21, 44, 62, 63, 64, 67, 72}
FURTHER_INDICES = [9, 10, 13, 23, 24, 25, 26, 36, 42, 47, 48, 49, 52, 54, 61, 63, 70, 74, 76, 79]
PETS = [{"id": 3, "name": "cat"}, {"id": 1, "name": "dog"}, {"id": 2, "name": "hamster"}]


def ids(names: tuple[str, ...]) -> set[int]:
    by_name = {c["name"]: c["id"] for c in CATEGORIES}
    return {by_name[name] for name in names}


def test_coco_classes_are_those_of_detectron2_in_order():
    assert list(COCO_CLASSES) == [c["name"] for c in CATEGORIES]


def test_voc_and_nonvoc_are_each_others_complement():
    voc, nonvoc = resolve("voc", CATEGORIES), resolve("nonvoc", CATEGORIES)
    assert ids(voc.supervised) == VOC_IDS
    assert voc.novel == nonvoc.supervised == voc.evaluated
    assert voc.supervised == nonvoc.novel
    assert len(voc.novel) == 60


def test_voc20_adds_the_classes_of_the_authors():
    further = {CATEGORIES[i]["id"] for i in FURTHER_INDICES}
    split = resolve("voc20", CATEGORIES)
    assert ids(split.supervised) == VOC_IDS | further
    assert len(split.novel) == 40


def test_all_leaves_nothing_novel_and_evaluates_everything():
    split = resolve("all", PETS)
    assert split.supervised == split.evaluated == ("cat", "dog", "hamster")
    assert split.novel == ()


def test_names_come_in_the_order_of_the_category_list():
    assert (
        resolve("voc", CATEGORIES[::-1]).supervised == resolve("voc", CATEGORIES).supervised[::-1]
    )
    split = resolve("mine", PETS, {"mine": ["hamster", "cat"]})
    assert split.supervised == ("cat", "hamster") and split.novel == ("dog",)


def test_available_offers_the_papers_splits_only_with_cocos_classes():
    assert available(CATEGORIES) == list(SUPERVISED_SETS)
    assert available(PETS, {"mine": ["cat"]}) == ["all", "mine"]


@pytest.mark.parametrize(
    ("name", "categories", "custom", "message"),
    [
        ("vocs", PETS, {"mine": ["cat"]}, "'vocs' is not known; there are: voc, .*, all, mine"),
        ("mine", PETS, {"mine": ["hamsters"]}, "'hamsters' is not in .*near names: hamster"),
        ("voc", CATEGORIES[1:], None, "'voc': class 'person' is not in"),
        ("nonvoc", [c for c in CATEGORIES if c["id"] != 90], None, "class 'toothbrush' is not in"),
        ("voc", PETS, None, r"\(and 77 more of its classes\)"),
        ("all", [*PETS, {"id": 9, "name": "cat"}], None, "categories: named more than once: cat"),
        ("mine", PETS, {"mine": ["cat", "dog", "hamster"]}, "leaves none novel: use 'all'"),
        ("all", [], None, "has no categories"),
    ],
)
def test_a_split_that_does_not_fit_says_why(name, categories, custom, message):
    with pytest.raises(UserError, match=message):
        resolve(name, categories, custom)
