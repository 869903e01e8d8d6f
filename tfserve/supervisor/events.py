"""Events that many coroutines can wait for, without polling."""

from __future__ import annotations

import asyncio


class Signal:
    """An event that happens repeatedly. The next one wakes all who wait."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def fire(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, timeout_s: float) -> bool:
        """Whether it happened within `timeout_s` seconds."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            done, _ = await asyncio.wait([waiter], timeout=timeout_s)
            return bool(done)
        finally:
            self._waiters.discard(waiter)


class Revision(Signal):
    """Counts the changes of the server's visible state, for pages that show it live."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 1

    def fire(self) -> None:
        self.number += 1
        super().fire()
