"""Mutated COCO jsons against the data contract, run in a child process by tests/test_data_fuzz.py.

python tests/fuzz_data.py {check|use|size} FOLDER MEMORY EXAMPLES

check: `check` accepts a file or raises UserError, whatever is in it.
use: what `check` accepts, stage `data`'s cleaning, training and evaluation accept.
size: large inputs of every kind that was slow once, within the CPU time that the parent allows.
"""

import copy
import json
import resource
import sys
from pathlib import Path

from coco_samples import COMPRESSED, CONTENT, CROWD, HEIGHT, WIDTH, box, write
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from opmask.data import checks, cleaning
from opmask.data.records import load_json
from opmask.errors import UserError

NUMBERS = [0, 1, -1, 0.5, 1e-300, 5e-324, 39.999999, 40, 1e5, 1e6, -1e6, 1e9, -1e9, 2**31, 2**32]
NUMBERS += [2**53, 2**63, 2**64, 2**127, -(2**63), 1e308, -1e308, 10**400, float("nan"), 1e10]
NUMBERS += [float("inf")]
NAMES = ["", "NA", "\ud800", "\0", "x" * 5000, "../7.png", "7.png", "cat", "a|b <i>x</i>", "１"]
COUNTS = ["", "0", "P" * 50, "PPPPPPPP0", "\x00", "é", [], [WIDTH * HEIGHT], [-1, 1201], [0] * 9]
SHAPES = [
    *([], [[]], [1, 1, 2, 2, 3, 3], [[1, 1, 2, 2]], [[1, 1, 5, 1, 5, 5, 7]], [[1, 1, 1, 1, 1, 1]]),
    *([[0, 0, 9e5, 0, 0, 9]], [[0, 0, 4e4, 0, 4e4, 4e4]], [[1e9, 0, 2e9, 0, 1e9, 1e9]], {}),
    *([[-5, -5, 90, -5, 90, 90, -5, 90]], [[i % 2 * 9e3 for i in range(100)]], COMPRESSED, CROWD),
    *({"size": [HEIGHT, WIDTH], "counts": c} for c in COUNTS),
    *({"size": size, "counts": "0"} for size in ([10**9, 10**9], [0, 0], [30.0, 40.0], "x")),
]
BOXES = [[0.1, 0.2, 0.3, 0.4], [1, 1, 0, 4], [2, 2, 1e-9, 5], [0, 0, 1e6, 1e6], [39, 29, 5, 5]]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS + NAMES),
    st.integers(),
    st.floats(),
    st.text(),
)
VALUES = st.one_of(
    SCALARS,
    st.sampled_from(SHAPES + BOXES),
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=8),
)
KEYS = ["id", "name", "area", "iscrowd", "segmentation", "bbox", "width", "year", "file_name"]
LIKELY = {"segmentation": SHAPES, "bbox": BOXES, "counts": COUNTS, "file_name": NAMES}
LIKELY |= {"area": NUMBERS, "iscrowd": [0, 1, True, False, None, 2, 1.0], "name": NAMES}

ACTIONS = ["set", "likely", "likely", "likely", "nudge", "nudge", "nudge", "remove", "twice", "add"]


def places(content, found=None) -> list[tuple]:
    """Every (container, key or index) of a json, outermost first."""
    found = [] if found is None else found
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in entries:
        found.append((content, key))
        if isinstance(value, dict | list):
            places(value, found)
    return found


@st.composite
def mutated(draw) -> dict:
    """CONTENT without box-only annotations, with one to four changes."""
    content = copy.deepcopy(CONTENT)
    del content["annotations"][2]
    for _ in range(draw(st.integers(1, 3))):
        choices = places(content)
        action = draw(st.sampled_from(ACTIONS))
        if action in ("likely", "remove"):  # where the contract leaves a choice
            choices = [place for place in choices if place[1] in LIKELY] or choices
        container, key = choices[draw(st.integers(0, len(choices) - 1))]
        if action == "remove":
            del container[key]
        elif action == "nudge" and isinstance(container[key], int | float):
            container[key] += draw(st.sampled_from([-1, 1, -0.5, 1e-9, 7, 30, -30]))
        elif action == "twice" and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        elif action == "add" and isinstance(container, dict):
            container[draw(st.sampled_from(KEYS))] = copy.deepcopy(draw(VALUES))
        else:
            likely = LIKELY.get(key) if action == "likely" else None
            value = draw(st.sampled_from(likely) if likely else VALUES)
            container[key] = copy.deepcopy(value)
        if not places(content):
            break
    return content


@st.composite
def encoded(draw) -> bytes:
    """A mutated json as bytes, in some encoding, some of them damaged."""
    text = json.dumps(draw(mutated()), ensure_ascii=draw(st.booleans()))
    encodings = ["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32-le", "latin-1"]
    raw = text.encode(draw(st.sampled_from(encodings)), errors="replace")
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.binary(max_size=3)) + raw[at + draw(st.integers(0, 5)) :]
    return raw


def accepted(file: Path, images: Path, evaluation: bool, degenerate: str) -> bool:
    try:
        checks.check(file, images, on_degenerate=degenerate, for_evaluation=evaluation)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 20000
        return False
    return True


def fuzz_check(folder: Path, examples: int) -> None:
    file, images = write(folder, CONTENT)
    outcomes = []

    @profile(examples)
    @given(encoded(), st.booleans(), st.sampled_from(["skip", "error"]))
    def run(raw, evaluation, degenerate):
        file.write_bytes(raw)
        outcomes.append(accepted(file, images, evaluation, degenerate))

    run()
    print(sum(outcomes), "of", len(outcomes), "accepted")
    assert 0 < sum(outcomes) < len(outcomes)


def fuzz_use(folder: Path, examples: int) -> None:
    from data_use import evaluate_all, map_all

    file, images = write(folder, CONTENT)
    outcomes = []

    @profile(examples)
    @given(mutated(), st.booleans())
    def run(content, evaluation):
        file.write_text(json.dumps(content))
        outcomes.append(accepted(file, images, evaluation, "skip"))
        if outcomes[-1]:
            data = cleaning.renumber(cleaning.clean(load_json(file)))
            assert cleaning.clean(data) == data == cleaning.renumber(data)
            copied = folder / "copy.json"
            cleaning.write(data, copied)
            map_all(copied, images)
            if evaluation:
                checks.check(copied, images, for_evaluation=True)
                evaluate_all(copied)

    run()
    print(sum(outcomes), "of", len(outcomes), "accepted")
    assert sum(outcomes) > len(outcomes) / 20


def profile(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


def large_inputs(folder: Path, size: int) -> None:
    """Some `size` bytes of one thing each: what is quadratic, or draws too much, does not end."""
    file, images = write(folder, CONTENT)

    def rle(counts):
        return box(1, 7, 4, {"size": [HEIGHT, WIDTH], "counts": counts})

    names = [{"id": i, "name": str(i)} for i in range(size // 30)]
    kinds = {
        "endless number": [rle("P" * size)],
        "many runs": [rle("0" * size)],
        "run lengths": [rle([0, 0] * (size // 6) + [HEIGHT * WIDTH])],
        "one polygon": [box(1, 7, 4, [[i % 30 for i in range(size // 4)]])],
        "zigzag": [box(1, 7, 4, [[i // 2 % 2 * 1e4 for i in range(size // 9)]])],
        "polygons": [box(1, 7, 4, [[1, 1, 5, 1, 5, 5]] * (size // 20))],
        "far polygons": [box(i, 7, 4, [[0, 0, 1e9, 0, 1e9, 1e9]]) for i in range(size // 150)],
        "long box": [box(1, 7, 4, bbox=[1] * (size // 3))],
        "boxes": [box(i, 7, 4) for i in range(size // 100)],
        "one id": [box(1, 7, 4) for i in range(size // 100)],
        "wrong types": [{"id": str(i)} for i in range(size // 15)],
        "digits": [box(1, 7, 4, bbox=[1, 1, 9, int("9" * 4000)])] * (size // 4000),
    }
    for name, annotations in kinds.items():
        file.write_text(json.dumps(CONTENT | {"annotations": annotations}))
        print(name, accepted(file, images, False, "skip"), flush=True)
    for key, records in (("many names", names), ("one name", [{"id": 1, "name": "a"}] * 10**5)):
        file.write_text(json.dumps(CONTENT | {"categories": records}))
        print(key, accepted(file, images, False, "skip"), flush=True)
    for text in ("[" * size, '{"a":' * (size // 5), '"' + "\\ud800" * (size // 6) + '"'):
        file.write_text(text)
        assert not accepted(file, images, False, "skip")


if __name__ == "__main__":
    command, folder, memory, amount = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (int(memory),) * 2)
    run = {"check": fuzz_check, "use": fuzz_use, "size": large_inputs}[command]
    run(Path(folder), int(amount))
