"""Header blocks: what the library hpack encodes, our decoder reads; what the library refuses, it refuses too."""

from __future__ import annotations

import random

import hpack
import pytest

from tfserve.web.http2.frames import ConnectionProblem, ErrorCode
from tfserve.web.http2.header_blocks import MAX_LIST_BYTES, TABLE_BYTES, HeaderDecoder, block, literal

NAMES = [
    b":path",
    b":method",
    b"content-type",
    b"user-agent",
    b"x-request-id",
    b"grpc-timeout",
    b"te",
    b"x-" + b"n" * 200,
]
LETTERS = b"abcXYZ0189 -/.\x00\xff"


def random_text(random_: random.Random, size: int) -> bytes:
    return bytes(random_.choice(LETTERS) for _ in range(size))


def random_fields(random_: random.Random) -> list[tuple[bytes, bytes]]:
    sizes = [0, 1, 7, 30, 126, 127, 128, 400]
    return [(random_.choice(NAMES), random_text(random_, random_.choice(sizes))) for _ in range(random_.randrange(9))]


def encoded(encoder: hpack.Encoder, random_: random.Random, fields: list[tuple[bytes, bytes]]) -> bytes:
    """With and without Huffman code and indexing, and sometimes with another size of the table."""
    if random_.random() < 0.2:
        encoder.header_table_size = random_.choice([0, 64, 300, TABLE_BYTES])
    given = [hpack.NeverIndexedHeaderTuple(*each) if random_.random() < 0.3 else each for each in fields]
    data: bytes = encoder.encode(given, huffman=random_.random() < 0.5)
    return data


@pytest.mark.parametrize("seed", range(10))
def test_what_the_library_encodes_is_decoded(seed: int) -> None:
    random_ = random.Random(seed)
    encoder, decoder = hpack.Encoder(), HeaderDecoder()
    for _ in range(30):
        fields = random_fields(random_)
        assert decoder.decode(encoded(encoder, random_, fields)) == fields


@pytest.mark.parametrize("seed", range(10))
def test_damaged_blocks_are_read_as_the_library_reads_them(seed: int) -> None:
    random_ = random.Random(1000 + seed)
    refused = 0
    for _ in range(40):
        encoder, ours, library = hpack.Encoder(), HeaderDecoder(), hpack.Decoder(max_header_list_size=MAX_LIST_BYTES)
        for _ in range(3):
            data = bytearray(encoded(encoder, random_, random_fields(random_)))
            for _ in range(random_.randrange(3)):
                if data:
                    data[random_.randrange(len(data))] = random_.randrange(256)
            expected = by_library(library, bytes(data))
            if expected is None:
                refused += 1
                with pytest.raises(ConnectionProblem):
                    ours.decode(bytes(data))
                break
            assert ours.decode(bytes(data)) == expected
    assert refused


def by_library(library: hpack.Decoder, data: bytes) -> list[tuple[bytes, bytes]] | None:
    try:
        return [(bytes(name), bytes(value)) for name, value in library.decode(data, raw=True)]
    except (hpack.HPACKError, UnicodeError):
        return None


def test_literals_are_read_by_the_library() -> None:
    fields = [(b"grpc-status", b"0"), (b"grpc-message", b"x" * 127), (b"a", b"y" * 20_000), (b"b", b"")]
    assert by_library(hpack.Decoder(), block(fields)) == fields


def test_the_generation_counts_changes_of_the_table() -> None:
    decoder = HeaderDecoder()
    decoder.decode(literal(b"a", b"b"))
    assert decoder.generation == 0
    decoder.decode(b"\x40\x01a\x01b")
    assert decoder.generation == 1
    decoder.decode(b"\x3e")
    assert decoder.generation == 2


@pytest.mark.parametrize(
    "data",
    [
        b"\x80", b"\xbe", b"\xff", b"\xff\x80\x80\x80\x80\x80\x80\x01", b"\x00", b"\x00\x05abc",
        b"\x00\x01a\x7f\xff\xff\xff\xff\x0f",
        b"\x3f\xe2\x1f", b"\x82\x20", b"\x00\x81\xff\x00", b"\x40\x01",
    ],
)  # fmt: skip
def test_what_is_no_block_ends_the_connection(data: bytes) -> None:
    with pytest.raises(ConnectionProblem) as problem:
        HeaderDecoder().decode(data)
    assert problem.value.code == ErrorCode.COMPRESSION_ERROR


def test_a_small_block_that_expands_to_much_is_refused() -> None:
    bomb = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 2000
    with pytest.raises(ConnectionProblem) as problem:
        HeaderDecoder().decode(bomb)
    assert problem.value.code == ErrorCode.ENHANCE_YOUR_CALM
