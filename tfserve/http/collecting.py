"""A request's body on its way in, gathered by the connection without asking the application for each piece."""

from __future__ import annotations

import asyncio

SMALL = 4096
"""Pieces below are copied together: as objects of their own they would take many times their size."""


class BodyCollector:
    """The pieces of one body. `done` is set when it is complete, too large, or will not come any more."""

    def __init__(self, limit: int) -> None:
        self.size = 0
        self.is_too_large = False
        self.is_lost = False
        self.done = asyncio.Event()
        self._limit = limit
        self._pieces: list[bytes | bytearray] = []
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
        """The client has gone before its body was complete."""
        self.is_lost = not self.done.is_set()
        self.done.set()

    def whole(self) -> bytes:
        """The body, once it is complete."""
        return b"".join([*self._pieces, self._small])

    def _keep(self, piece: bytes) -> None:
        if len(piece) < SMALL:
            self._small += piece
            return
        if self._small:
            self._pieces.append(self._small)
            self._small = bytearray()
        self._pieces.append(piece)
