"""The output file of a batch. Lines are kept in memory until they are saved together."""

from __future__ import annotations

import os
import threading
from pathlib import Path


class OutputFile:
    """Appends after the first `size` bytes, which count. `rows` and `errors` are those since the last `save`.

    `open`, `save` and `close` block, so they run in threads, which continue when the batch is cancelled. After `close`,
    which may come while another thread still saves or before it opens the file, the others do nothing.
    """

    def __init__(self, path: Path, size: int, header: bytes) -> None:
        self._path = path
        self._size = size
        self._lines: list[bytes] = [] if size else [header]
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._is_closed = False
        self.rows = 0
        self.errors = 0
        self.unsaved_bytes = 0

    def open(self) -> None:
        """Cuts off what does not count. Raises `OSError`."""
        with self._lock:
            if self._is_closed:
                return
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            os.ftruncate(self._fd, self._size)

    def add(self, line: bytes, *, is_error: bool) -> None:
        self._lines.append(line)
        self.unsaved_bytes += len(line)
        self.rows += 1
        self.errors += is_error

    def save(self) -> int:
        """Writes the lines to the disk. Returns the size of the file. Raises `OSError`."""
        with self._lock:
            if self._fd is None:
                return self._size
            left = memoryview(b"".join(self._lines))
            size = self._size + len(left)
            while left:
                left = left[os.write(self._fd, left) :]
            os.fsync(self._fd)
            self._size = size
            self._lines.clear()
            self.rows = self.errors = self.unsaved_bytes = 0
            return size

    def close(self) -> None:
        """Waits for a thread that saves."""
        with self._lock:
            self._is_closed = True
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None
