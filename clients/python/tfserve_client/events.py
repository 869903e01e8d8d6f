"""Reads server-sent events from chunks of bytes."""

from __future__ import annotations

from collections.abc import Iterator

COMMENT = "comment"
"""The name of a sign of life, which is not an event."""


class EventReader:
    """Splits at line feeds only, because JSON data may contain other characters at which `str.splitlines` splits."""

    def __init__(self) -> None:
        self._rest = b""
        self._event, self._data = "message", b""

    def feed(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        """The complete events as (name, data)."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            field, _, value = line.removesuffix(b"\r").partition(b":")
            value = value.removeprefix(b" ")
            if field == b"event":
                self._event = value.decode()
            elif field == b"data":
                self._data += value
            elif line.startswith(b":"):
                yield COMMENT, b""
            elif not field:
                if self._data:
                    yield self._event, self._data
                self._event, self._data = "message", b""
