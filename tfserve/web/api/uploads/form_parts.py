"""The parts of a form (multipart/form-data), one piece at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

from tfserve.errors import Invalid

MAX_PARTS = 1000
MAX_HEADER_BYTES = 8192


@dataclass(frozen=True)
class PartBegin:
    """A part begins: a file, if it has a file name, or else a field."""

    name: str
    filename: str | None


class PartEnd:
    """A part has ended."""


Event = PartBegin | PartEnd | bytes


async def form_parts(content_type: str, pieces: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """The parts of a form in order. Raises `Invalid` if it is malformed or truncated, or has too many parts."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise Invalid("Invalid form data: the Content-Type has no boundary.")
    events = _Events()
    try:
        parser = MultipartParser(boundary, events.callbacks())
        async for piece in pieces:
            parser.write(piece)
            for event in events.taken():
                yield event
    except FormParserError as error:
        raise Invalid(f"Invalid form data: {error}.") from None
    if not events.is_complete:
        raise Invalid("The form was cut off: its closing boundary is missing. Send it again.")


class _Events:
    """Collects what the parser reports."""

    def __init__(self) -> None:
        self.is_complete = False
        self._events: list[Event] = []
        self._parts = 0
        self._field = b""
        self._value = b""
        self._disposition = b""

    def taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": lambda data, start, end: self._events.append(data[start:end]),
            "on_part_end": lambda: self._events.append(PartEnd()),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._parts += 1
        self._disposition = b""
        if self._parts > MAX_PARTS:
            raise Invalid(f"Invalid form data: more than {MAX_PARTS} parts. Send an archive instead.")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field = _short(self._field + data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value = _short(self._value + data[start:end])

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        filename = options.get(b"filename")
        name = options.get(b"name", b"").decode("utf-8", "replace")
        self._events.append(PartBegin(name, None if filename is None else filename.decode("utf-8", "replace")))

    def _end(self) -> None:
        self.is_complete = True


def _short(header: bytes) -> bytes:
    if len(header) > MAX_HEADER_BYTES:  # newer versions of the parser check it themselves
        raise Invalid(f"Invalid form data: Maximum header size exceeded ({MAX_HEADER_BYTES} bytes).")
    return header
