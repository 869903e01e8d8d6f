"""Restores a worker's standard streams before every job, because a script may have closed or replaced them."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import sys

from tfserve.worker import process_group

# Above what a script that closes "all" files from 3 on usually reaches.
_SAVED_FROM = 200


class StandardStreams:
    """Remembers what file descriptors 0, 1 and 2 were when the worker began."""

    def __init__(self) -> None:
        self._saved = [saved(fd) for fd in (0, 1, 2)]
        self._in, self._out, self._err = _reader(0), writer(1), writer(2)

    def restore(self) -> None:
        """Puts descriptors and `sys.stdin`, `sys.stdout`, `sys.stderr` back, line-buffered UTF-8."""
        for fd, saved in enumerate(self._saved):
            os.dup2(saved, fd)
        self._in = self._in if not self._in.closed else _reader(0)
        self._out = self._out if not self._out.closed else writer(1)
        self._err = self._err if not self._err.closed else writer(2)
        sys.stdin = sys.__stdin__ = self._in  # type: ignore[misc]
        sys.stdout = sys.__stdout__ = self._out  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = self._err  # type: ignore[misc]


def flush() -> None:
    """Writes out what Python and C code have printed. A stream that a script has broken is left alone."""
    for name in ("stdout", "stderr"):
        # It may be deleted, or an object of the script, whose flush() may raise anything.
        with contextlib.suppress(BaseException):
            getattr(sys, name).flush()
    process_group.flush_c_streams()


def saved(fd: int) -> int:
    """A copy of a descriptor, out of the way of scripts."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _SAVED_FROM)


def open_output(path: str) -> int:
    """A descriptor that appends to a file or writes to a pipe. Raises `OSError`."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        return saved(fd)
    finally:
        os.close(fd)


def _reader(fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedReader(io.FileIO(fd, closefd=False)), encoding="utf-8")


def writer(fd: int) -> io.TextIOWrapper:
    """A standard stream of a program: line-buffered UTF-8. It leaves its descriptor open."""
    raw = io.FileIO(fd, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", newline="\n", line_buffering=True
    )
