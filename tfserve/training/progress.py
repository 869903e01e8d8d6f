"""How far a training has come, told in words and numbers: never backwards, and not too often."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tfserve.ipc.messages import Progress

COMPLETE = 99.0
"""The supervisor adds the last percent."""

INTERVAL_S = 0.5
KEEP_EVERY = 1.0
"""Percent."""


class Reporter:
    """Notifies the supervisor through `tell`. `kept` is a file with the progress of an earlier attempt."""

    def __init__(self, job: int, tell: Callable[[Progress], None], kept: Path | None = None) -> None:
        self._job = job
        self._tell = tell
        self._kept = kept
        self._progress = self._written = _read(kept)
        self._told_at = 0.0
        self._message = ""
        self._lock = threading.Lock()

    def say(
        self, progress: float, message: str, *, eta_s: float | None = None, metrics: dict[str, Any] | None = None
    ) -> None:
        """Tells at once."""
        with self._lock:
            self._progress, self._message = min(max(self._progress, progress), COMPLETE), message
            self._told_at = time.monotonic()
            self._keep()
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

    def repeat(self, after_s: float, progress: float, eta_s: float) -> None:
        """Says the last message again with the time that is left by now, if there was no other for so long."""
        if self._message and time.monotonic() - self._told_at >= after_s:
            self.say(progress, self._message, eta_s=eta_s)

    def _keep(self) -> None:
        if self._kept is not None and self._progress >= self._written + KEEP_EVERY:
            self._written = self._progress
            with suppress(OSError):  # progress that is forgotten prevents nothing
                self._kept.write_text(f"{self._progress:.2f}")


def _read(kept: Path | None) -> float:
    try:
        return min(max(0.0, float(kept.read_text())), COMPLETE) if kept is not None else 0.0
    except (OSError, ValueError):
        return 0.0
