"""A request's body on its way in, gathered by the connection without asking the application for each piece."""

from __future__ import annotations

import asyncio

SMALL = 4096
"""Pieces below are copied together: as objects of their own they would take many times their size."""

FULL = 1024 * 1024
"""More of them are a piece: one of any size would have to be copied while all other threads wait."""


class BodyCollector:
    """The pieces of one body. `done` is set when it is complete, too large, or will not come any more."""

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
        """The client has gone before its body was complete."""
        self.is_lost = not self.done.is_set()
        self.done.set()

    def whole(self) -> bytes:
        """The body, once it is complete. May be called once, in a thread, which lets others run if all is `bytes`."""
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
