"""Calls back when something in a folder or below it has changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tfserve.supervisor.declared.file_events import FileEvents


class FolderEvents:
    """Create it on the event loop."""

    def __init__(self, folder: Path, on_change: Callable[[], None]) -> None:
        self._folder = folder
        self._on_change = on_change
        self._events = FileEvents(self._changed)
        self._events.watch(self._folders())

    def close(self) -> None:
        self._events.close()

    def _changed(self, _: object) -> None:
        """A new folder may have files by now: what it has is seen by the reader who is notified."""
        self._events.watch(self._folders())
        self._on_change()

    def _folders(self) -> Iterator[Path]:
        for where, _, _ in os.walk(self._folder):
            yield Path(where)
