"""How far a training has come, told in words and numbers: never backwards, and not too often."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tfserve.ipc.messages import Progress

PREPARED, FITTED, COMPLETE = 5.0, 85.0, 99.0
"""Where the phases end: preparing, epochs, evaluation and exports. The supervisor adds the last percent."""

INTERVAL_S = 0.5


class Reporter:
    """Tells the supervisor through `tell`; `start` is what a former attempt has reached."""

    def __init__(self, job: int, tell: Callable[[Progress], None], start: float = 0.0) -> None:
        self._job = job
        self._tell = tell
        self._progress = start
        self._told_at = 0.0

    def say(
        self, progress: float, message: str, *, eta_s: float | None = None, metrics: dict[str, Any] | None = None
    ) -> None:
        """Tells at once."""
        self._progress = min(max(self._progress, progress), COMPLETE)
        self._told_at = time.monotonic()
        self._tell(
            Progress(
                job=self._job, progress=round(self._progress, 2), message=message,
                eta_s=None if eta_s is None else round(eta_s, 1), metrics=metrics,
            )
        )  # fmt: skip

    def mention(self, progress: float, message: str, eta_s: float | None = None) -> None:
        """Tells, unless something was told just now."""
        if time.monotonic() - self._told_at >= INTERVAL_S:
            self.say(progress, message, eta_s=eta_s)
