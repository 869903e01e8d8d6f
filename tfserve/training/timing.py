"""How much time is left: the stages of a run, what each is expected to take, and what this machine took earlier.

Stages that compute are expected in seconds of two ordinary cores, and the pace of this machine is learnt from those
that are done. Others, such as exports, take what they took in the last run; a file in the data folder keeps that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfserve.training.progress import COMPLETE, Reporter
from tfserve.training.writing import written_aside

FIRST, LAST = 1.0, 98.0
"""Progress at the beginning of the first stage and at the end of the last."""
SPEED = "speed"
PRIOR_S = 10.0
"""What is known of the machine from earlier runs counts as much as this many seconds of this run."""
OWN_PACE_FROM = 0.15
"""From this share on, a stage's own pace says when it will end."""


@dataclass
class _Expected:
    """`key` is the name in the file for what does not depend on the images; else `seconds` are nominal."""

    seconds: float
    key: str | None
    took: float | None = None


class Stage:
    """A stage that is under way."""

    def __init__(self, clock: Clock, name: str) -> None:
        self._clock, self.name = clock, name
        self.began_at = time.monotonic()
        self.share = 0.0
        self._first: tuple[float, float] | None = None

    def mention(self, share: float, message: str) -> None:
        """Reports the share that is done, unless something was reported just now."""
        self._at(share)
        self._clock.reporter.mention(self._clock.progress(), message, self._clock.time_left())

    def say(self, share: float, message: str, *, metrics: dict[str, Any] | None = None) -> None:
        self._at(share)
        self._clock.reporter.say(self._clock.progress(), message, eta_s=self._clock.time_left(), metrics=metrics)

    def remaining(self, expected: float) -> float:
        """Seconds, by the pace of this stage once it has one, without its first step, which builds everything."""
        elapsed = time.monotonic() - self.began_at
        if self._first is None or self.share - self._first[0] < OWN_PACE_FROM:
            return max(expected - elapsed, expected * (1 - self.share) * 0.5)
        share, at = self._first
        return (time.monotonic() - at) / (self.share - share) * (1 - self.share)

    def _at(self, share: float) -> None:
        self.share = min(max(self.share, share), 1.0)
        if self._first is None:
            self._first = self.share, time.monotonic()


class Clock:
    """Progress and time left, from the stages that are expected."""

    def __init__(self, reporter: Reporter, file: Path | None = None) -> None:
        self.reporter = reporter
        self._file = file
        self._kept = _read(file)
        self._stages: dict[str, _Expected] = {}
        self._current: Stage | None = None

    @property
    def speed(self) -> float:
        """Seconds that this machine takes for one of an ordinary machine."""
        done = [each for each in self._stages.values() if each.took is not None and each.key is None]
        took, expected = sum(each.took or 0.0 for each in done), sum(each.seconds for each in done)
        return (self._kept.get(SPEED, 1.0) * PRIOR_S + took) / (PRIOR_S + expected)

    def usual(self, key: str, otherwise: float) -> float:
        """What something took in the last run on this machine."""
        return self._kept.get(key, otherwise)

    def expect(self, name: str, seconds: float, *, key: str | None = None) -> None:
        """Adds a stage, or replaces what was expected of it."""
        if name not in self._stages or self._stages[name].took is None:
            self._stages[name] = _Expected(self.usual(key, seconds) if key else seconds, key)

    def drop(self, name: str) -> None:
        """The stage will not come, or is done already."""
        if name in self._stages and self._stages[name].took is None:
            del self._stages[name]

    @contextmanager
    def stage(self, name: str, message: str | None = None) -> Iterator[Stage]:
        """Measures a stage and reports its beginning."""
        self._stages.setdefault(name, _Expected(1.0, None))
        stage = self._current = Stage(self, name)
        if message is not None:
            self.reporter.say(self.progress(), message, eta_s=self.time_left())
        try:
            yield stage
            self._stages[name].took = time.monotonic() - stage.began_at
        finally:
            self._current = None

    def progress(self) -> float:
        done = sum(each.seconds for each in self._stages.values() if each.took is not None)
        if self._current is not None:
            done += self._current.share * self._stages[self._current.name].seconds
        total = sum(each.seconds for each in self._stages.values())
        return min(FIRST + (LAST - FIRST) * done / max(total, 1e-9), COMPLETE)

    def time_left(self) -> float:
        """Seconds."""
        left = 0.0
        for name, each in self._stages.items():
            if each.took is None:
                expected = each.seconds * (1.0 if each.key else self.speed)
                is_current = self._current is not None and self._current.name == name
                left += self._current.remaining(expected) if is_current and self._current else expected
        return left

    def keep(self) -> None:
        """Writes what was learnt for the next runs. A disk that is full prevents nothing else."""
        if self._file is None:
            return
        took = {each.key: each.took for each in self._stages.values() if each.key and each.took is not None}
        with suppress(OSError), written_aside(self._file) as aside:
            aside.write_text(json.dumps(_read(self._file) | took | {SPEED: self.speed}))


def _read(file: Path | None) -> dict[str, float]:
    try:
        content = json.loads(file.read_text()) if file is not None else {}
        return {str(key): float(value) for key, value in content.items() if 0 < float(value) < 1e5}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
