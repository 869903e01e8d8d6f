"""What a thread's script writes goes to whoever owns the thread's job; what others write, to the real streams."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

CHUNK_BYTES = 256 * 1024

Write = Callable[[int, bytes], None]
"""Takes a stream, 1 (stdout) or 2 (stderr), and some bytes."""


class RoutedStream:
    """Stands in for `sys.stdout` or `sys.stderr`: in a thread with a job it is the job's stream, else the real one."""

    def __init__(self, number: int, real: TextIO) -> None:
        self._number = number
        self._real = real
        self._current = threading.local()
        os.register_at_fork(after_in_child=self.forget)

    @contextlib.contextmanager
    def routed(self, write: Write) -> Iterator[None]:
        """Within, what the calling thread writes goes to `write`.

        Afterwards nothing does: who has kept the stream, or its buffer, writes to the real one.
        """
        raw = _Raw(self._number, write)
        stream = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", newline="\n", line_buffering=True
        )
        self._current.stream = stream
        try:
            yield
        finally:
            with contextlib.suppress(Exception):
                stream.flush()
            raw.redirect(self._real)
            self._current.stream = self._real

    def forget(self) -> None:
        """In a child that a script has forked there is nobody to write to but the real stream."""
        self._current = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(self._current, "stream", self._real), name)

    def __iter__(self) -> Iterator[str]:
        raise io.UnsupportedOperation("not readable")


class _Raw(io.RawIOBase):
    def __init__(self, number: int, write: Write) -> None:
        self._number = number
        self._write = write

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), CHUNK_BYTES):
            self._write(self._number, bytes(view[start : start + CHUNK_BYTES]))
        return len(view)

    def redirect(self, stream: TextIO) -> None:
        def write(_: int, data: bytes) -> None:
            stream.buffer.write(data)
            stream.flush()

        self._write = write


def install() -> tuple[RoutedStream, RoutedStream]:
    """Replaces `sys.stdout` and `sys.stderr`, once for the process."""
    streams = RoutedStream(1, sys.stdout), RoutedStream(2, sys.stderr)
    sys.stdout, sys.stderr = streams
    return streams
