"""Lists of numbers in JSON are read as Python's json reads them, or not at all, however they are cut into chunks."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import numpy as np
import pytest

from tfserve.tensors import json_chunks, json_numbers
from tfserve.tensors.json_numbers import Numbers

CASES = int(os.environ.get("TFSERVE_FUZZ_CASES", "2000"))
"""More of them are checked by hand, with this variable."""

NUMBERS = ["0", "1", "-1", "1.5", "12", "1e5", "0.25", "-3.75", "123456", "9223372036854775807", "18446744073709551615"]
TOKENS = [
    "],[",
    "], [",
    "]],[[",
    "],",
    ",[",
    "[]",
    "[[",
    "]]",
    ",",
    "[",
    "]",
    "  ",
    " ",
    "\n",
    "1",
    "[1]",
    ",,",
    "-",
    ".",
]


def regular(random_: random.Random) -> str:
    rank = random_.randint(1, 5)
    most = random_.choice([2, 3, 5, 12 if rank < 3 else 4])
    shape = [random_.randint(1, most) for _ in range(rank)]
    numbers = random_.choice([NUMBERS[:4], NUMBERS[:9], NUMBERS])
    separator = random_.choice([",", ",", ", ", ",\n", " , "])

    def text(depth: int) -> str:
        if depth == rank:
            return random_.choice(numbers)
        return "[" + separator.join(text(depth + 1) for _ in range(shape[depth])) + "]"

    return text(0)


def changed(text: str, random_: random.Random) -> str:
    """A list in which a few brackets, commas or others were added, removed, moved or swapped."""
    for _ in range(random_.choice([0, 1, 1, 2, 2, 3])):
        marks = [n for n, character in enumerate(text) if character in "[],"] or [0]
        at, other = sorted(random_.choices(marks, k=2))
        how = random_.randrange(4)
        if how == 0:
            text = text[:at] + random_.choice(TOKENS) + text[at:]
        elif how == 1:
            text = text[:at] + text[at + 1 :]
        elif how == 2 and at < other:
            text = text[:at] + text[other] + text[at + 1 : other] + text[at] + text[other + 1 :]
        elif how == 3 and (token := random_.choice(TOKENS[:5])) in text:  # moves a boundary between rows
            at = text.index(token)
            text = text[:at] + "," + text[at + len(token) :]
            comma = random_.choice([n for n, character in enumerate(text) if character == ","])
            text = text[:comma] + token + text[comma + 1 :]
    return text


def expected(text: str) -> Any:
    """The array; "ragged" for a list that is irregular or empty, None for what is not JSON."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    shape = shape_of(document)
    return "ragged" if shape is None else np.array(document, object).reshape(shape)


def shape_of(value: Any) -> tuple[int, ...] | None:
    """None for a list that is ragged or has an empty list."""
    if not isinstance(value, list):
        return ()
    inner = {shape_of(each) for each in value}
    only = inner.pop() if len(inner) == 1 else None
    return None if only is None else (len(value), *only)


def check(text: str, found: Numbers | None) -> None:
    want = expected(text)
    if want is None:
        assert found is None, text
    elif isinstance(want, str):
        assert found is None or found.shape is None, text
    elif found is not None:  # a list that is written in an unusual way may be left to the slow parser
        assert found.shape == want.shape, text
        values = np.concatenate(found.arrays)
        assert values.tolist() == [values.dtype.type(each).item() for each in want.ravel()], text


@pytest.mark.parametrize("piece", [1, 7, 16, 4096])
def test_changed_lists_are_read_as_json_reads_them(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(json_chunks, "PIECE", piece)
    monkeypatch.setattr(json_numbers, "WHOLE", 0 if piece < 4096 else 4096)
    random_ = random.Random(f"{CASES} {piece}")
    accepted = 0
    for _ in range(CASES // 4):
        text = changed(regular(random_), random_)
        found = json_numbers.parse(text.encode()) if text.startswith("[") else None
        accepted += found is not None and found.shape is not None
        check(text, found)
    assert accepted > CASES / 4 / 5


@pytest.mark.parametrize("separator", [",", ", ", ",\n  "])
@pytest.mark.parametrize("shape", [(40,), (40, 1), (5, 8), (1, 4, 5, 3), (6, 1, 2, 1), (1, 1, 1, 7), (3, 1, 1)])
def test_regular_lists_are_read_in_chunks(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], separator: str
) -> None:
    array = np.arange(np.prod(shape)).reshape(shape) / 4
    text = json.dumps(array.tolist()).replace(", ", separator)
    for piece in range(2, 40):
        monkeypatch.setattr(json_chunks, "PIECE", piece)
        found = json_chunks.parse(memoryview(text.encode()), lenient=False)
        assert found is not None
        assert found.shape == shape
        assert np.array_equal(np.concatenate(found.arrays).reshape(shape), array)


def test_the_type_is_that_of_all_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_chunks, "PIECE", 8)
    for text, dtype in (
        ("[1, 2, 3, 4, 5, 6]", np.int64), ("[1, 2, 3, 18446744073709551615]", np.uint64),
        ("[-1, 2, 3, 18446744073709551615]", np.float64), ("[1, 2, 3, 4, 5, 6.5]", np.float64),
        ("[18446744073709551615, 1, 2, -3]", np.float64), ("[18446744073709551615, 1, 2, 0.5]", np.float64),
    ):  # fmt: skip
        found = json_chunks.parse(memoryview(text.encode()), lenient=False)
        assert found is not None
        assert {array.dtype for array in found.arrays} == {np.dtype(dtype)}
        assert np.concatenate(found.arrays).tolist() == np.array(json.loads(text), dtype).tolist()


def test_integers_become_floats_as_before_with_two_roundings() -> None:
    for value in (16777217, 9007199791611905, 2**63 + 2**39 + 1):
        found = json_numbers.parse(f"[{value}]".encode())
        assert found is not None
        read = found.read("float32")
        assert read is not None
        assert read[0] == np.float32(np.float64(value))
