"""Parsed annotations are kept by content: whole or not at all, made once, and never in the way."""

import copy
import json
import multiprocessing
import time

import pytest
from coco_samples import CONTENT, write

from opmask.data import coco, shared
from opmask.errors import UserError

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def data(tmp_path):
    return write(tmp_path, copy.deepcopy(CONTENT))


def load(data, cache=None):
    return list(coco.load_training_dicts(*data, [4, 18], cache)[0])


def kept(cache):
    return [path for path in cache.iterdir() if path.is_dir()]


def test_the_next_start_parses_nothing(data, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first = load(data, cache)
    assert first == load(data) and len(kept(cache)) == 1
    monkeypatch.setattr(shared, "write_set", None)
    assert load(data, cache) == first


def test_another_content_is_parsed_anew(data, tmp_path):
    cache = tmp_path / "cache"
    before = load(data, cache)
    content = json.loads(data[0].read_text())
    content["annotations"][0]["bbox"][0] += 1
    data[0].write_text(json.dumps(content))
    after = load(data, cache)
    assert after == load(data) != before and len(kept(cache)) == 2


def test_what_was_interrupted_is_not_used(data, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(shared, "publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            load(data, cache)
    assert load(data, cache) == load(data)
    assert [path.suffix for path in kept(cache)] == [""]


def test_a_folder_that_cannot_be_written_is_done_without(data, tmp_path):
    (tmp_path / "file").touch()
    assert load(data, tmp_path / "file" / "cache") == load(data)


def test_processes_that_start_together_parse_once(data, tmp_path, monkeypatch):
    cache, made, write_set = tmp_path / "cache", tmp_path / "made", shared.write_set

    def slow(*args):
        with made.open("a") as file:
            file.write("once\n")
        time.sleep(0.3)
        write_set(*args)

    monkeypatch.setattr(shared, "write_set", slow)
    with FORK.Pool(3) as pool:
        found = pool.starmap(load, [(data, cache)] * 3, chunksize=1)
    assert made.read_text() == "once\n"
    monkeypatch.undo()
    assert found == [load(data)] * 3


def test_an_object_of_no_image_is_named(data):
    content = json.loads(data[0].read_text())
    content["annotations"][0]["image_id"] = 4
    data[0].write_text(json.dumps(content))
    with pytest.raises(UserError, match="annotation of an unknown image"):
        load(data)
