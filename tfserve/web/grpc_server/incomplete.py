"""Calls whose message has not arrived yet. They count as calls in progress, so they must not take forever."""

from __future__ import annotations

import asyncio
from typing import Protocol

MIB = 2**20


class Incomplete(Protocol):
    """A call that waits for its message."""

    @property
    def received_bytes(self) -> int: ...

    def late(self) -> None:
        """Its time is over."""


class IncompleteCalls:
    """Ends each after `timeout_s`, plus a second per MiB received. One timer serves all of them."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        #: when the time of each is over, as far as it is known; in the order of their beginning
        self._due: dict[Incomplete, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Incomplete) -> None:
        loop = asyncio.get_running_loop()
        self._due[call] = loop.time() + self._timeout_s
        if self._timer is None:
            self._timer = loop.call_later(self._timeout_s, self._check)

    def remove(self, call: Incomplete) -> None:
        self._due.pop(call, None)

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        now, self._timer = loop.time(), None
        for call, due in list(self._due.items()):
            if due + call.received_bytes / MIB <= now:
                self.remove(call)
                call.late()
        if self._due:
            next_at = min(due + call.received_bytes / MIB for call, due in self._due.items())
            self._timer = loop.call_at(max(next_at, now + self._timeout_s / 10), self._check)
