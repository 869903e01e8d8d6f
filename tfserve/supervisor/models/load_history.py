"""Decides how many replicas an autoscaled model needs, from the predictions in flight over the last minute."""

from __future__ import annotations

from collections import deque

from tfserve.ipc.messages import Autoscale

SMOOTHED = 3
"""Readings of which the average counts, so that one burst starts no process."""


class LoadHistory:
    """More load is followed at once, less of it only when the load was lower for `down_after_s` seconds."""

    def __init__(self, down_after_s: float) -> None:
        self._down_after_s = down_after_s
        self._began_at: float | None = None
        self._last: deque[int] = deque(maxlen=SMOOTHED)
        #: time and average of the readings that still count
        self._averages: deque[tuple[float, float]] = deque()

    def add(self, now: float, in_flight: int) -> None:
        """A reading; `now` is in seconds and only grows."""
        self._began_at = now if self._began_at is None else self._began_at
        self._last.append(in_flight)
        self._averages.append((now, sum(self._last) / len(self._last)))
        while self._averages[0][0] <= now - self._down_after_s:
            self._averages.popleft()

    def replicas(self, limits: Autoscale, current: int) -> int:
        """How many there should be now, within the limits. `current` is the number that was decided last."""
        current = limits.within(current)
        if self._began_at is None or len(self._last) < SMOOTHED:
            return current
        now, average = self._averages[-1]
        needed = limits.replicas_for(average)
        if needed >= current:
            return needed
        if now - self._began_at < self._down_after_s:
            return current
        return limits.replicas_for(max(each for _, each in self._averages))
