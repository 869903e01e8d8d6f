"""The access log: a JSON line for each request, written by a thread, so that requests do not wait for the disk.

Each process appends whole lines, so that several can write to one file. After the file has been moved or removed, for
example by logrotate, the next lines go to a new file. No signal is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from tfserve.config import STANDARD_OUTPUT

log = logging.getLogger(__name__)

FLUSH_S = 0.2
MAX_WAITING = 100_000
"""Maximum lines that wait for the disk. More are dropped, because predictions are more important than their log."""
MAX_PATH = 500
REPORT_EVERY_S = 60.0
FINISH_S = 3.0


class AccessLogEntry(msgspec.Struct):
    """One line. The API that handles the request fills in its fields. `error` is a kind of error or `client_gone`."""

    time: datetime
    request_id: str
    client: str | None
    method: str
    path: str
    trace_id: str | None = None
    protocol: str | None = None
    model: str | None = None
    version: int | None = None
    status: int | str | None = None
    error: str | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    duration_ms: float = 0.0


class Started(NamedTuple):
    """An entry, and when its request began, by `time.perf_counter`."""

    entry: AccessLogEntry
    at_s: float


#: the entry of the current request; None without an access log
CURRENT: ContextVar[AccessLogEntry | None] = ContextVar("access_log_entry", default=None)


def note_model(name: str, version: int) -> None:
    """The model that the current request is for."""
    if (entry := CURRENT.get()) is not None:
        entry.model, entry.version = name, version


class AccessLog:
    """Writes the lines of this process to the file at `path`, or to standard output if it is `-`."""

    def __init__(self, path: str) -> None:
        self._entries: list[AccessLogEntry] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writer = _Writer(path)
        self._writer.start()

    @contextlib.contextmanager
    def entry(self, *, request_id: str, client: str | None, method: str, path: str) -> Iterator[AccessLogEntry]:
        """An entry that is written when the block ends, with the fields that were filled in meanwhile. For any API."""
        started = self.begin(request_id=request_id, client=client, method=method, path=path)
        try:
            yield started.entry
        finally:
            self.end(started)

    def begin(self, *, request_id: str, client: str | None, method: str, path: str) -> Started:
        """The current entry from now on, to be written by `end`."""
        entry = AccessLogEntry(datetime.now(UTC), request_id, client, method, path[:MAX_PATH])
        CURRENT.set(entry)
        return Started(entry, time.perf_counter())

    def end(self, started: Started) -> None:
        started.entry.duration_ms = round((time.perf_counter() - started.at_s) * 1000, 3)
        self.write(started.entry)

    def write(self, entry: AccessLogEntry) -> None:
        """Writes the line soon, without blocking. Must be called on the event loop."""
        self._entries.append(entry)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def close(self) -> None:
        """Returns when all lines have been written, or after `FINISH_S`."""
        self._flush()
        self._writer.finish()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entries, self._entries = self._entries, []
        self._writer.put(entries)


class _Writer(threading.Thread):
    """The thread that writes."""

    def __init__(self, path: str) -> None:
        super().__init__(name="access-log", daemon=True)
        self._path = path
        self._batches: queue.SimpleQueue[list[AccessLogEntry] | None] = queue.SimpleQueue()
        self._accepted = self._done = 0
        self._encoder = msgspec.json.Encoder()
        self._fd = -1
        self._not_before = 0.0

    def put(self, entries: list[AccessLogEntry]) -> None:
        """Called on the event loop."""
        if self._accepted - self._done + len(entries) > MAX_WAITING:
            self._report(f"{len(entries)} lines were dropped: writing is too slow")
            return
        self._accepted += len(entries)
        self._batches.put(entries)

    def finish(self) -> None:
        self._batches.put(None)
        self.join(FINISH_S)

    def run(self) -> None:
        while (entries := self._batches.get()) is not None:
            try:
                self._write(entries)
            except OSError as error:
                self._report(f"{len(entries)} lines are lost: {error}")
            self._done += len(entries)

    def _write(self, entries: list[AccessLogEntry]) -> None:
        if self._path == STANDARD_OUTPUT:
            for entry in entries:  # one by one: a write of up to 4096 bytes to a pipe is atomic
                _write_all(1, self._encoder.encode_lines([entry]))
        elif entries:
            _write_all(self._file(), self._encoder.encode_lines(entries))

    def _file(self) -> int:
        """The file at the path, which is opened again after it has been moved or removed."""
        if self._fd >= 0 and not _is_at(self._path, self._fd):
            os.close(self._fd)
            self._fd = -1
        if self._fd < 0:
            self._fd = open_for_lines(self._path)
        return self._fd

    def _report(self, what: str) -> None:
        if time.monotonic() >= self._not_before:
            self._not_before = time.monotonic() + REPORT_EVERY_S
            log.error("access log %s: %s", self._path, what)


def open_for_lines(path: str) -> int:
    """A file descriptor for appending. Raises `OSError`."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))  # noqa: PTH116 - to compare with fstat
    except FileNotFoundError:
        return False


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
