"""How often, and after how long, a dead worker is started again: pure numbers, no clock of its own."""

from __future__ import annotations

from dataclasses import dataclass

MAX_DEATHS = 5
STABLE_S = 10.0
FIRST_DELAY_S = 0.25
MAX_DELAY_S = 8.0


@dataclass
class Restarts:
    """The deaths in a row of one workspace's workers.

    A worker that lived for ten seconds, or finished a job, breaks the row: its death starts a new one.
    """

    deaths: int = 0
    not_before: float = 0.0

    @property
    def given_up(self) -> bool:
        return self.deaths >= MAX_DEATHS

    def died(self, *, now: float, lived_s: float) -> None:
        """`now` is any monotonic clock, in seconds, the same in every call."""
        self.deaths = 1 if lived_s >= STABLE_S else self.deaths + 1
        # The first restart is immediate: most deaths come alone.
        delay = 0.0 if self.deaths == 1 else min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (self.deaths - 2))
        self.not_before = now + delay

    def worked(self) -> None:
        self.deaths = 0
        self.not_before = 0.0

    def delay_s(self, now: float) -> float:
        """Seconds to wait before the next start."""
        return max(0.0, self.not_before - now)


class ModelDeaths:
    """The deaths of one deployed model's processes.

    While they serve: these delay the next start, but the model always comes back. While they load the model: after
    several in a row that is given up.
    """

    def __init__(self) -> None:
        self.serving = Restarts()
        self.loading = Restarts()

    def delay_s(self, now: float) -> float:
        """Seconds to wait before the next start."""
        return max(self.serving.delay_s(now), self.loading.delay_s(now))
