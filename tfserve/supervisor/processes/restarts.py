"""Decides whether and when to restart a dead process. Uses the clock of its caller."""

from __future__ import annotations

from dataclasses import dataclass

MAX_DEATHS = 5
STABLE_S = 10.0
FIRST_DELAY_S = 0.25
MAX_DELAY_S = 8.0


@dataclass
class Restarts:
    """Counts the consecutive deaths of the processes with one purpose.

    The count starts again for a process that lived for ten seconds or completed a job.
    """

    deaths: int = 0
    not_before: float = 0.0

    @property
    def given_up(self) -> bool:
        return self.deaths >= MAX_DEATHS

    def died(self, *, now: float, lived_s: float) -> None:
        """`now` is any monotonic clock, in seconds, the same in every call."""
        self.deaths = 1 if lived_s >= STABLE_S else self.deaths + 1
        # The first restart is immediate, because most deaths are isolated.
        delay = 0.0 if self.deaths == 1 else min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (self.deaths - 2))
        self.not_before = now + delay

    def worked(self) -> None:
        self.deaths = 0
        self.not_before = 0.0

    def delay_s(self, now: float) -> float:
        """Seconds to wait before the next start."""
        return max(0.0, self.not_before - now)


class ModelDeaths:
    """Counts the deaths of the processes of one deployed model.

    Deaths while serving only delay the next start. After several deaths in a row while loading, the model is given up.
    """

    def __init__(self) -> None:
        self.serving = Restarts()
        self.loading = Restarts()

    def delay_s(self, now: float) -> float:
        """Seconds to wait before the next start."""
        return max(self.serving.delay_s(now), self.loading.delay_s(now))
