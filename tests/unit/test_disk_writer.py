"""Writing in a thread: everything arrives in order, little is in memory, and a full disk is one error."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from tfserve.errors import OutOfSpace
from tfserve.uploads import store
from tfserve.web.http.disk_writer import PIECE_BYTES, disk_writer, writing


def test_all_pieces_are_written_in_order(tmp_path: Path) -> None:
    pieces = [os.urandom(size) for size in (1, PIECE_BYTES, 3, 2 * PIECE_BYTES + 1, 0, 10)]
    content = b"".join(pieces)

    async def scenario() -> None:
        async with disk_writer(tmp_path / "a") as writer:
            for piece in pieces:
                await writer.write(piece)
        assert (writer.size, writer.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        with pytest.raises(OutOfSpace, match="File exists"):
            async with disk_writer(tmp_path / "a"):
                pass
        async with disk_writer(tmp_path / "a", append=True) as writer:
            await writer.write(b"more")

    asyncio.run(scenario())
    assert (tmp_path / "a").read_bytes() == content + b"more"


def test_what_has_arrived_is_written_when_the_client_goes_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with disk_writer(tmp_path / "a") as writer:
            await writer.write(b"arrived")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        asyncio.run(scenario())
    assert (tmp_path / "a").read_bytes() == b"arrived"


@pytest.mark.parametrize("size", [1, 3 * PIECE_BYTES])
def test_a_full_disk_is_one_error(tmp_path: Path, size: int) -> None:
    async def scenario() -> None:
        async with writing(os.open("/dev/full", os.O_WRONLY), tmp_path) as writer:
            for _ in range(3):
                await writer.write(bytes(size))

    with pytest.raises(OutOfSpace, match="No space left on device"):
        asyncio.run(scenario())


def test_some_of_the_disk_is_left_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "RESERVE_BYTES", 2**60)

    async def scenario() -> None:
        async with disk_writer(tmp_path / "a") as writer:
            await writer.write(b"x")

    with pytest.raises(OutOfSpace, match="uploads leave"):
        asyncio.run(scenario())
    assert (tmp_path / "a").read_bytes() == b""
