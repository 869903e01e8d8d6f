"""The access log: a JSON line for every request, written by a thread so that nobody waits for the disk.

Each process appends whole lines, so several can write to one file. When the file was moved or removed (logrotate
does it) the next lines go to a new one; there is no signal to be sent.
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

import msgspec

from tfserve.config import STANDARD_OUTPUT

log = logging.getLogger(__name__)

FLUSH_S = 0.2
MAX_WAITING = 100_000
"""Lines that wait for the disk; more are dropped, since predictions go before lines about them."""
MAX_PATH = 500
COMPLAIN_EVERY_S = 60.0
FINISH_S = 3.0


class Entry(msgspec.Struct):
    """One line. Who answers fills in what it knows; `error` is a kind of error, or `client_gone`."""

    time: datetime
    request_id: str
    client: str | None
    method: str
    path: str
    protocol: str | None = None
    model: str | None = None
    version: int | None = None
    status: int | str | None = None
    error: str | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    duration_ms: float = 0.0


#: the line about the request that is being answered; None when nobody wants one
CURRENT: ContextVar[Entry | None] = ContextVar("access_log_entry", default=None)


class AccessLog:
    """The lines of this process on their way to the file at `path`, or to standard output when it is `-`."""

    def __init__(self, path: str) -> None:
        self._entries: list[Entry] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writer = _Writer(path)
        self._writer.start()

    @contextlib.contextmanager
    def entry(self, *, request_id: str, client: str | None, method: str, path: str) -> Iterator[Entry]:
        """Writes a line when the block ends, with whatever was filled in meanwhile. For any protocol."""
        entry = Entry(datetime.now(UTC), request_id, client, method, path[:MAX_PATH])
        started = time.perf_counter()
        CURRENT.set(entry)
        try:
            yield entry
        finally:
            entry.duration_ms = round((time.perf_counter() - started) * 1000, 3)
            self.write(entry)

    def write(self, entry: Entry) -> None:
        """Returns at once; the line is in the file some moments later. Call it on the event loop."""
        self._entries.append(entry)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._hand_over)

    def close(self) -> None:
        """Returns when everything is written, or after `FINISH_S`."""
        self._hand_over()
        self._writer.finish()

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entries, self._entries = self._entries, []
        self._writer.take(entries)


class _Writer(threading.Thread):
    """The one thread that writes."""

    def __init__(self, path: str) -> None:
        super().__init__(name="access-log", daemon=True)
        self._path = path
        self._handed_over: queue.SimpleQueue[list[Entry] | None] = queue.SimpleQueue()
        self._taken = self._done = 0
        self._encoder = msgspec.json.Encoder()
        self._fd = -1
        self._not_before = 0.0

    def take(self, entries: list[Entry]) -> None:
        """Called on the event loop."""
        if self._taken - self._done + len(entries) > MAX_WAITING:
            self._complain(f"{len(entries)} lines were dropped: writing is too slow")
            return
        self._taken += len(entries)
        self._handed_over.put(entries)

    def finish(self) -> None:
        self._handed_over.put(None)
        self.join(FINISH_S)

    def run(self) -> None:
        while (entries := self._handed_over.get()) is not None:
            try:
                self._write(entries)
            except OSError as error:
                self._complain(f"{len(entries)} lines are lost: {error}")
            self._done += len(entries)

    def _write(self, entries: list[Entry]) -> None:
        if self._path == STANDARD_OUTPUT:
            for entry in entries:  # each on its own: a pipe keeps together what is written at once, up to 4096 bytes
                _write_all(1, self._encoder.encode_lines([entry]))
        elif entries:
            _write_all(self._file(), self._encoder.encode_lines(entries))

    def _file(self) -> int:
        """The open file, which is the one at the path even after another was moved away from there."""
        if self._fd >= 0 and not _is_at(self._path, self._fd):
            os.close(self._fd)
            self._fd = -1
        if self._fd < 0:
            self._fd = open_for_lines(self._path)
        return self._fd

    def _complain(self, what: str) -> None:
        if time.monotonic() >= self._not_before:
            self._not_before = time.monotonic() + COMPLAIN_EVERY_S
            log.error("access log %s: %s", self._path, what)


def open_for_lines(path: str) -> int:
    """A descriptor that appends. Raises `OSError`."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))  # noqa: PTH116 - beside fstat
    except FileNotFoundError:
        return False


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
