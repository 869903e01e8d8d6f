"""Collects a request body in the connection, without waking the application for each piece."""

from __future__ import annotations

import asyncio

SMALL = 4096
"""Smaller pieces are joined, because separate objects would take many times their size."""

FULL = 1024 * 1024
"""Joined pieces end at this size, because copying a larger one would block all other threads."""


class BodyCollector:
    """The pieces of one body. `done` is set when it is complete or too large, or the client is gone."""

    def __init__(self, limit: int) -> None:
        self.size = 0
        self.is_too_large = False
        self.is_lost = False
        self.done = asyncio.Event()
        self._limit = limit
        self._pieces: list[bytes] = []
        self._small = bytearray()

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > self._limit:
            self.is_too_large = True
            self._pieces.clear()
            self._small.clear()
            self.done.set()
        elif not self.is_too_large:
            self._keep(piece)

    def finish(self) -> None:
        self.done.set()

    def lost(self) -> None:
        """The client disconnected. Has no effect if the body is complete."""
        self.is_lost = not self.done.is_set()
        self.done.set()

    def whole(self) -> bytes:
        """The complete body. May be called once. Joining `bytes` releases the GIL, so it may run in a thread."""
        pieces, self._pieces = [*self._pieces, bytes(self._small)], []
        return b"".join(pieces)

    def _keep(self, piece: bytes) -> None:
        if len(piece) < SMALL:
            self._small += piece
        if self._small and (len(piece) >= SMALL or len(self._small) > FULL):
            self._pieces.append(bytes(self._small))
            self._small = bytearray()
        if len(piece) >= SMALL:
            self._pieces.append(piece)
