"""The audit log: each change with its principal, time, address and outcome. One JSON line each, never a secret.

A line is written before the response is sent, so it survives the end of the process. It is not flushed to the disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from tfserve.access.principals import ADDRESS, PRINCIPAL
from tfserve.errors import Kind, TFserveError
from tfserve.web.http.access_log import open_for_lines
from tfserve.web.http.request_ids import REQUEST_ID, trace_id

log = logging.getLogger(__name__)

MAX_TEXT = 200
BYTES_PER_LINE = 600
"""More than nearly all lines have."""
OK = "ok"


class AuditEntry(msgspec.Struct, omit_defaults=True):
    """One line."""

    time: datetime
    who: str
    action: str
    """The operation's name in the OpenAPI document, or `log_in`, `refused_token`, `set_password`."""
    outcome: str
    """`ok`, or the kind of the error."""
    client: str = ""
    request_id: str = ""
    trace_id: str | None = None
    resource: dict[str, Any] = {}
    """The workspace, task, token or path that was named."""
    error: str = ""


class AuditLog:
    """Appends whole lines, so that several processes can write to one file. Does nothing without a path."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder()
        self._is_broken = False

    def write(
        self, action: str, outcome: str, *, resource: dict[str, Any] | None = None, error: str = "", who: str = ""
    ) -> None:
        """`who` is the sender of the current request by default."""
        if self._path is None:
            return
        entry = AuditEntry(
            time=datetime.now(UTC),
            who=who or PRINCIPAL.get().name,
            action=action,
            outcome=outcome,
            client=ADDRESS.get(),
            request_id=REQUEST_ID.get().decode(),
            trace_id=trace_id(),
            resource={name: _short(value) for name, value in (resource or {}).items() if value is not None},
            error=error[:MAX_TEXT],
        )
        self._append(self._encoder.encode(entry) + b"\n")

    @contextlib.contextmanager
    def action(self, name: str, resource: dict[str, Any]) -> Iterator[None]:
        """Writes a line about the block when it has ended, with its outcome."""
        try:
            yield
        except TFserveError as error:
            self.write(name, str(error.kind), resource=resource, error=error.message)
            raise
        except Exception:
            self.write(name, str(Kind.INTERNAL), resource=resource)
            raise
        else:
            self.write(name, OK, resource=resource)

    def last(self, count: int) -> list[AuditEntry]:
        """The last entries, newest first."""
        if self._path is None or not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - count * BYTES_PER_LINE))
            lines = file.read().splitlines()
        found = [entry for line in lines[-count:] if (entry := _parsed(line)) is not None]
        return found[::-1]

    def _append(self, line: bytes) -> None:
        """The file is opened for each line, so that one that was moved by logrotate gets no more lines."""
        try:
            fd = open_for_lines(str(self._path))
            try:
                os.write(fd, line)
            finally:
                os.close(fd)
        except OSError as error:
            if not self._is_broken:
                log.error("the audit log cannot be written: %s", error)
            self._is_broken = True
        else:
            self._is_broken = False


def _parsed(line: bytes) -> AuditEntry | None:
    """None for a line of which only the end was read, or that a full disk has cut off."""
    try:
        return msgspec.json.decode(line, type=AuditEntry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _short(value: Any) -> Any:
    """Long values are shortened: a script that is sent as text is not part of the log."""
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return value if isinstance(value, int | float | bool) else str(value)[:MAX_TEXT]
