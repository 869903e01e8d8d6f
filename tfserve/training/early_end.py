"""Trainings that are to end early and deliver their best model so far. Requests arrive in the thread of the inbox."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_requested: set[int] = set()


def request(job: int) -> None:
    _requested.add(job)


class EarlyEnd:
    """Whether a job is to end early. `file` keeps it for the next attempt, if this worker is killed."""

    def __init__(self, job: int, file: Path) -> None:
        self._job = job
        self._file = file
        self._is_requested = file.is_file() and file.read_text() == str(job)

    def __call__(self) -> bool:
        if not self._is_requested and self._job in _requested:
            self._is_requested = True
            with suppress(OSError):  # on a full disk, only another attempt would not know
                self._file.write_text(str(self._job))
        return self._is_requested
