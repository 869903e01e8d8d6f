"""How long each measurement may take, so that the rows fit into the time that the user gives."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

SHORTEST_S, LONGEST_S = 1.0, 8.0
OVERHEAD_S = 1.7
"""Of each measurement: twice half a second in which the server must be idle, and wrk's own start."""
WARM_UP_SHARE = 0.25


@dataclass
class Budget:
    """`minutes` None: as long as it takes, `seconds` for each measurement."""

    minutes: float | None
    seconds: float
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._end = self.clock() + self.minutes * 60 if self.minutes else None

    def row_end(self, rows_left: int) -> float | None:
        """When the next of the remaining rows must be finished: they get equal parts of what is left."""
        if self._end is None:
            return None
        return self.clock() + max(0.0, self._end - self.clock()) / rows_left

    def measurement_s(self, row_end: float | None, measurements: int) -> float:
        """For each of the measurements that remain in the row."""
        if row_end is None:
            return self.seconds
        each = max(0.0, row_end - self.clock()) / measurements
        return min(LONGEST_S, max(SHORTEST_S, (each - OVERHEAD_S) / (1 + WARM_UP_SHARE)))

    def is_over(self, row_end: float | None) -> bool:
        return row_end is not None and self.clock() >= row_end
