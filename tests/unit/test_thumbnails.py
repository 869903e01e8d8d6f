"""Files that can't be shown as thumbnails are not found, whatever is wrong with them."""

from __future__ import annotations

import asyncio
import struct
import zlib
from pathlib import Path

import pytest

from tfserve.errors import NotFound
from tfserve.web.thumbnails import thumbnail


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(side: int, *chunks: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"".join((b"\x89PNG\r\n\x1a\n", head, *chunks, chunk(b"IEND", b"")))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (png(10_001), "more than 100,000,000 pixels"),
        (png(14_000), "more than 100,000,000 pixels"),  # Pillow refuses this itself
        (png(60_000), "more than 100,000,000 pixels"),
        (png(4), "can't be shown"),
        (png(4, chunk(b"IDAT", b"nothing")), "can't be shown"),
        (b"nothing", "can't be shown"),
        (b"", "can't be shown"),
        (b"\x89PNG\r\n\x1a\n", "can't be shown"),
    ],
)
def test_what_cannot_be_shown_is_not_found(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(content)
    with pytest.raises(NotFound, match=words):
        asyncio.run(thumbnail(file, 64))
