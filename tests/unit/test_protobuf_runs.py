"""Runs of small fields in a protocol buffer, as in forests of decision trees, are skipped, and nothing else is."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest

from tfserve.models import protobuf

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def varint(value: int) -> bytes:
    content = b""
    while value > 0x7F:
        content += bytes([value & 0x7F | 0x80])
        value >>= 7
    return content + bytes([value])


def field(draw: random.Random, wire: int) -> bytes:
    if wire == VARINT:
        return varint(draw.choice([0, 5, 300, 2**64 - 1]))
    if wire == BYTES:
        text = draw.randbytes(draw.choice([0, 1, 3, 10, 127, 128, 300]))
        return varint(len(text)) + text
    return draw.randbytes(8 if wire == FIXED64 else 4)


def message(draw: random.Random) -> bytes:
    """Runs of fields, some of them truncated or with a wrong byte."""
    content = b""
    for _ in range(draw.randint(1, 20)):
        number, wire = draw.choice([1, 5, 5, 8, 8, 9, 22]), draw.choice([VARINT, FIXED64, BYTES, BYTES, FIXED32])
        for _ in range(draw.choice([1, 1, 3, 6])):
            content += varint(number << 3 | wire) + field(draw, wire)
    damage = draw.choice(["", "cut", "byte"])
    if damage == "cut":
        return content[: draw.randint(0, len(content))]
    if damage == "byte":
        at = draw.randrange(len(content))
        return content[:at] + draw.randbytes(1) + content[at + 1 :]
    return content


def outcome(read: Callable[[], Iterable[Any]]) -> list[Any] | str:
    try:
        return list(read())
    except (ValueError, IndexError) as error:
        return type(error).__name__


@pytest.mark.parametrize("seed", range(0, 300, 50))
def test_the_same_fields_are_found_as_by_reading_all(seed: int) -> None:
    for each in range(seed, seed + 50):
        check(memoryview(message(random.Random(each))))


def check(data: memoryview) -> None:
    def having(numbers: set[int]) -> Iterator[protobuf.Field]:
        return (each for each in protobuf.fields(data) if each.number in numbers)

    for numbers in ({5}, {5, 8}, {9}, {1, 22}):
        assert outcome(partial(protobuf.chosen, data, numbers)) == outcome(partial(having, numbers))
    for number in (1, 5, 9, 22):
        expected = outcome(partial(having, {number}))
        contents = expected if isinstance(expected, str) else [each.bytes for each in expected]
        assert outcome(partial(protobuf.of, data, number)) == contents


def test_a_forest_of_a_million_numbers_takes_no_longer_than_a_moment() -> None:
    """Field by field it takes ten times as long, and these are one percent of a usual forest."""
    run = b"\x40\x85\x02" * 500_000 + b"\x3dabcd" * 300_000 + b"\x4a\x0aBRANCH_LEQ\x4a\x04LEAF" * 100_000
    data = memoryview(run + b"\x2a\x01x")

    def seconds(read: Callable[[], Iterable[Any]]) -> float:
        begin = time.process_time()
        assert [bytes(getattr(each, "bytes", each)) for each in read()] == [b"x"]
        return time.process_time() - begin

    slow = seconds(lambda: [each for each in protobuf.fields(data) if each.number == 5])
    assert seconds(lambda: protobuf.chosen(data, {5})) < slow / 3
    assert seconds(lambda: protobuf.of(data, 5)) < slow / 3
