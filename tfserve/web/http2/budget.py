"""A budget for frames that cost the peer less than the server: pings, settings, resets, empty frames."""

from __future__ import annotations

import time
from collections.abc import Callable

from tfserve.web.http2.frames import ConnectionProblem, ErrorCode

BURST = 1000
PER_S = 100


class Budget:
    """Refills over time, and with each completed call, so that a client that cancels many of its calls may do so."""

    __slots__ = ("_clock", "_filled_at", "_left")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._filled_at = clock()
        self._left: float = BURST

    def earn(self) -> None:
        if self._left < BURST:
            self._left += 1

    def spend(self) -> None:
        """Raises `ConnectionProblem` when nothing is left."""
        self._left -= 1
        if self._left >= 0:
            return
        now = self._clock()
        self._left = min(BURST, self._left + (now - self._filled_at) * PER_S)
        self._filled_at = now
        if self._left < 0:
            raise ConnectionProblem(ErrorCode.ENHANCE_YOUR_CALM, "too many pings, settings, resets or empty frames")
