"""Reading a COCO json in blocks gives what reading it whole does, records and errors."""

import copy
import json

import pytest
from coco_samples import CONTENT
from hypothesis import given, settings
from hypothesis import strategies as st

from opmask.data import records, streaming
from opmask.errors import UserError

numbers = st.integers() | st.floats(allow_nan=False) | st.integers(-9, 9)
leaves = numbers | st.text(alphabet='ab":{}[],\\ \ud800é') | st.booleans() | st.none()
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)
KEYS = st.sampled_from(["id", "image_id", "segmentation", "x"])
entries = st.lists(st.dictionaries(KEYS, values))
contents = st.fixed_dictionaries(
    {key: entries | values for key in records.FIELDS},
    optional={"info": values, "licenses": entries, "x": st.just({"images": [{"id": 1}]})},
)


def outcome(read, path):
    try:
        content = read(path)
    except UserError as error:
        return str(error)
    return repr({key: content[key] for key in records.FIELDS})  # tells 1 from 1.0


def in_blocks(path):
    content = {key: [] for key in records.FIELDS}
    for key, found in streaming.read_blocks(path):
        assert found
        content[key] += found
    return content


def same(path):
    return outcome(in_blocks, path) == outcome(records.load_json, path)


@pytest.mark.slow
@given(
    contents.flatmap(lambda c: st.permutations(list(c.items()))),
    st.sampled_from(
        [{}, {"indent": 1}, {"separators": (",", ":")}, {"separators": (" , ", " : ")}]
    ),
    st.sampled_from([10, 60, 1000]),
)
@settings(max_examples=100, deadline=None)
def test_records_and_errors_are_those_of_the_whole_file(tmp_path_factory, items, style, block):
    path = tmp_path_factory.getbasetemp() / "random.json"
    path.write_text(json.dumps(dict(items), **style))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "_BLOCKS", (block, 100 * block))
        assert same(path)


@pytest.fixture
def text():
    content = copy.deepcopy(CONTENT)
    content["annotations"] *= 30
    return json.dumps({"info": {"images": "many"}, **content}, separators=(",", ":"))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(streaming, "_BLOCKS", (1000, 4000))


def test_a_common_file_never_needs_the_slow_way(tmp_path, text, small_blocks, monkeypatch):
    text = text.replace('":d0', '"d0')  # a text that begins with a colon looks like a key's end
    (path := tmp_path / "a.json").write_text(text)
    certain = streaming._is_certain
    monkeypatch.setattr(streaming, "load_json", None)
    monkeypatch.setattr(streaming, "_is_certain", lambda *given: certain(*given) or pytest.fail())
    blocks = [found for key, found in streaming.read_blocks(path) if key == "annotations"]
    assert len(blocks) > 10 and sum(blocks, []) == json.loads(text)["annotations"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"id":3,', '"id":3,"id":4,'),
        ('"id":3,', '"id":3,"id" :4,'),
        ('"id":3,', '"id":3,"\\u0069d":4,'),
        ('"id":3,', '"id":36893488147419103232,'),
        ('"size":[30,40],', '"size":[30,40],"size":[30,40],'),
        ('"area":100', '"area":NaN'),
        ('"area":100', '"area":1e400'),
        ('"area":100', '"area":"a},{:\\"b"'),
        ('"area":100', '"area":[{"a":1},{"b":2}]'),
        ('"area":100', '"area":01'),
        ('"annotations":[', '"annotations":[7,'),
        ('"categories"', '"annotations":[],"categories"'),
        ('"info":{', '"info":{"annotations":[{"id":1}],'),
        ('"categories":[', '"classes":['),
        ("}", ""),
        ("]", ""),
        ('{"info"', '\ufeff{"info"'),
        ('{"info"', '[{"info"'),
    ],
)
@pytest.mark.parametrize("count", [1, -1])
def test_what_is_unusual_is_read_whole(tmp_path, text, small_blocks, old, new, count):
    (path := tmp_path / "a.json").write_text(text.replace(old, new, count))
    assert old in text and same(path)


def test_a_file_that_is_not_there_or_empty(tmp_path):
    assert same(tmp_path / "a.json")
    (tmp_path / "a.json").touch()
    assert same(tmp_path / "a.json")


@pytest.mark.parametrize("last", [None, 3, "}", [{}]])
def test_a_list_that_is_passed_over_gives_nothing_however_it_ends(last, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**CONTENT, "annotations": [*CONTENT["annotations"], last]}))
    found = streaming.read_lists(path, "images", "categories")
    assert found == {key: CONTENT[key] for key in ("images", "categories")}
