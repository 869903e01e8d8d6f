"""What a file contains is found, or not, whatever its bytes are: an exception would keep its deployment waiting."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tfserve.models import contents

NODE = b"\x0a\x12\x0a\x05input\x12\x0bPlaceholder"
STARTS = (
    NODE,
    b"\x08\x01\x12\x04abcd",
    b"\x08\x07:\x03abc",
    b"\x1f\x8b\x08\0",
    b"PK\x03\x04",
    b"\x89HDF\r\n\x1a\n",
    b"{",
    b"<",
)


@pytest.mark.parametrize("content", [b"\x0a\x02\x0a\xff", b"\x0a\x0b\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"])
def test_a_node_whose_sizes_are_cut_off_is_none(tmp_path: Path, content: bytes) -> None:
    (file := tmp_path / "m.pb").write_bytes(content)
    assert contents.identify(file) != contents.FROZEN_GRAPH


@pytest.mark.parametrize("start", STARTS)
def test_no_content_raises_an_error(tmp_path: Path, start: bytes) -> None:
    chance = random.Random(7)
    for size in range(200):
        (file := tmp_path / "m").write_bytes(start + chance.randbytes(size))
        contents.identify(file)
        (file := tmp_path / "m").write_bytes(chance.randbytes(1) + start[1:] + start * (size % 3))
        contents.identify(file)
