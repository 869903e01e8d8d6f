"""The output of a worker and its descendants: two pipes that are read here, so that it survives the worker.

While a job runs, its output goes to the job's file, otherwise to the server's log.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from tfserve.supervisor.events import Signal
from tfserve.supervisor.processes.last_lines import LAST_BYTES, LastLines

log = logging.getLogger(__name__)

CHUNK_BYTES = 128 * 1024
TAIL_BYTES = 64 * 1024
PIPE_BYTES = 1024 * 1024

Sink = Callable[[int, bytes], None]


class JobOutput:
    """The file of one job's output, up to a limit, and the last 64 KiB of each stream.

    `appends` keeps what an earlier server has written for the same job.
    """

    def __init__(self, path: Path, limit_bytes: int, *, appends: bool = False) -> None:
        self.path = path
        self.size = path.stat().st_size if appends and path.is_file() else 0
        self.grew = Signal()
        self._limit = limit_bytes
        self._fd: int | None = None
        self._full = self.size > limit_bytes  # with the marker, which an earlier server has written
        self._tails = {1: b"", 2: b""}
        self._last_errors = LastLines()

    def write(self, stream: int, data: bytes) -> None:
        """`stream` is 1 for stdout and 2 for stderr. Above the limit, only the tails are kept."""
        self._tails[stream] = (self._tails[stream] + data)[-TAIL_BYTES:]
        if stream == 2:  # where fault dumps go
            self._last_errors.add(data)
        room = self._limit - self.size
        if self._full or not data:
            return
        if len(data) > room:
            marker = f"\n[the output is longer than {self._limit} bytes: the rest is not kept]\n"
            self._append(data[:room] + marker.encode())
            self._full = True
        else:
            self._append(data)
        self.grew.fire()

    def write_line(self, text: str) -> None:
        """What the server has to say of the job, on a line of its own in stdout."""
        before = b"" if self._tails[1][-1:] in (b"", b"\n") else b"\n"
        self.write(1, before + f"{text}\n".encode())

    def tail(self, stream: int) -> str:
        return self._tails[stream].decode(errors="replace")

    @property
    def last_lines(self) -> str:
        """The end of stderr with the start of a fault dump, or of stdout if stderr is empty."""
        if self._tails[2]:
            return self._last_errors.text()
        return self._tails[1][-LAST_BYTES:].decode(errors="replace")

    @property
    def shows_fault(self) -> bool:
        """Whether stderr contains a fault dump."""
        return self._last_errors.has_fault

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self.grew.fire()

    def _append(self, data: bytes) -> None:
        try:
            if self._fd is None:  # most jobs print nothing and need no file
                self.path.parent.mkdir(parents=True, exist_ok=True)
                truncate = 0 if self.size else os.O_TRUNC
                self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | truncate, 0o600)
            self.size += os.write(self._fd, data)
        except OSError as error:
            log.warning("the output of a job can't be kept: %s", error)
            self._full = True


def last_lines_of(path: Path) -> str:
    """The last lines of a job's file with the start of a fault dump; empty if the job has printed nothing."""
    lines = LastLines()
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines.add(file.read())
    return lines.text()


class Pipe:
    """Reads one pipe as bytes arrive."""

    def __init__(self, file: IO[bytes], stream: int, deliver: Sink) -> None:
        self._file = file
        self._stream = stream
        self._deliver = deliver
        self._fd = file.fileno()
        self._open = True
        os.set_blocking(self._fd, False)
        with contextlib.suppress(PermissionError):  # the pipe memory of an unprivileged user is limited
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def drain(self) -> None:
        """Reads what is in the pipe now, which includes all output from before the worker's response."""
        for _ in range(PIPE_BYTES // CHUNK_BYTES + 1):  # not endless if a thread keeps printing
            if not self._read():
                return

    @property
    def is_open(self) -> bool:
        """Whether something may still write to it."""
        return self._open

    def pause_reading(self) -> None:
        """Lets the pipe fill up, until `resume_reading`."""
        if self._open:
            asyncio.get_running_loop().remove_reader(self._fd)

    def resume_reading(self) -> None:
        if self._open:
            asyncio.get_running_loop().add_reader(self._fd, self._read)

    def close(self) -> None:
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._fd)
            self._file.close()

    def _read(self) -> bool:
        if not self._open:
            return False
        try:
            data = os.read(self._fd, CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        self._deliver(self._stream, data)
        return True


class Printer(Protocol):
    """Where the output of a workspace's scripts arrives. It belongs to `output`, while that is set."""

    output: JobOutput | None

    def drain(self) -> None:
        """Reads what has been printed until now."""


@dataclass(frozen=True)
class OfferedPipes:
    """Pipes for the output of one workspace of the host, and the paths by which it can open them."""

    printer: Printer
    stdout: str
    stderr: str


class OutputPipes:
    """Two pipes for the output of one workspace of the host. It belongs to `output`, while that is set."""

    def __init__(self) -> None:
        self.output: JobOutput | None = None
        ends = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        self._write_fds = [write for _, write in ends]
        self._pipes = [
            Pipe(os.fdopen(read, "rb", buffering=0), stream, self._printed)
            for stream, (read, _) in enumerate(ends, start=1)
        ]

    @contextlib.contextmanager
    def offered(self) -> Iterator[list[str]]:
        """Within the context, the host can open the pipes by these two paths. They end when it has closed them."""
        try:
            yield [f"/proc/{os.getpid()}/fd/{fd}" for fd in self._write_fds]
        finally:
            for fd in self._write_fds:
                os.close(fd)

    def drain(self) -> None:
        for pipe in self._pipes:
            pipe.drain()

    def _printed(self, stream: int, data: bytes) -> None:
        if self.output is not None:
            self.output.write(stream, data)
        else:
            log.debug("printed between jobs: %s", data.decode(errors="replace").rstrip())
