"""The output file of a batch. Lines are kept in memory until they are saved together."""

from __future__ import annotations

import os
from pathlib import Path


class OutputFile:
    """Appends after the first `size` bytes, which count. `rows` and `errors` are those since the last `save`.

    Its constructor, `save` and `close` block.
    """

    def __init__(self, path: Path, size: int, header: bytes) -> None:
        """Cuts off what does not count. Raises `OSError`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.ftruncate(self._fd, size)
        self._size = size
        self._lines: list[bytes] = [] if size else [header]
        self.rows = 0
        self.errors = 0
        self.unsaved_bytes = 0

    def add(self, line: bytes, *, is_error: bool) -> None:
        self._lines.append(line)
        self.unsaved_bytes += len(line)
        self.rows += 1
        self.errors += is_error

    def save(self) -> int:
        """Writes the lines to the disk. Returns the size of the file. Raises `OSError`."""
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
        os.close(self._fd)
