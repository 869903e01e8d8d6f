"""The timeouts of many requests with a single timer: a timer each takes a noticeable part of a small request's time."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")

TICK_S = 0.05
"""Timeouts that share the timer are up to this much late."""

SHORT_S = 1.0
"""Shorter timeouts are rare and must be exact, so they get a timer each."""


class TimerWheel(Generic[K]):
    """Calls `on_due(key, seconds)` when the time of a key is over that has not been removed.

    Timeouts that end within the same tick share a slot, and one timer is set for the first slot that has any.
    """

    def __init__(self, on_due: Callable[[K, float], object]) -> None:
        self._on_due = on_due
        self._slots: dict[int, dict[K, float]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_for = 0
        self._same_until = self._same_seconds = 0.0
        self._same_slot: dict[K, float] = {}

    def add(self, key: K, seconds: float) -> dict[K, float]:
        """Returns the slot, from which the key is removed with `pop(key, None)`."""
        if seconds < SHORT_S:
            own = {key: seconds}
            asyncio.get_running_loop().call_later(seconds, self._end, own)
            return own
        now = time.monotonic()
        if now < self._same_until and seconds == self._same_seconds:
            self._same_slot[key] = seconds
            return self._same_slot
        number = int((now + seconds) / TICK_S) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
            heapq.heappush(self._order, number)
            if self._timer is None or number < self._timer_for:
                self._set_timer(number)
        # Requests in quick succession share the slot, without looking for it.
        self._same_until, self._same_seconds, self._same_slot = number * TICK_S - seconds, seconds, slot
        slot[key] = seconds
        return slot

    def _set_timer(self, number: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = number * TICK_S - time.monotonic()
        self._timer_for = number
        self._timer = asyncio.get_running_loop().call_later(max(0.0, delay_s), self._turn)

    def _turn(self) -> None:
        self._timer = None
        self._same_until = 0.0  # its slot may be dropped here
        now = time.monotonic() / TICK_S
        due: list[dict[K, float]] = []
        while self._order and (self._order[0] <= now or not self._slots[self._order[0]]):
            due.append(self._slots.pop(heapq.heappop(self._order)))
        if self._order:
            self._set_timer(self._order[0])
        for slot in due:
            self._end(slot)

    def _end(self, slot: dict[K, float]) -> None:
        while slot:
            self._on_due(*slot.popitem())
