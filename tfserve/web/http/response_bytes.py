"""Complete responses as bytes, for a single write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

Header = tuple[bytes, bytes]

CLOSE: Header = (b"connection", b"close")


class ResponseHeads:
    """Builds the start of responses. The headers that all have in common change once a second, with the date."""

    def __init__(self) -> None:
        self._common: Sequence[Header] = ()
        self._starts: dict[int, bytes] = {}

    def head(self, status: int, common: Sequence[Header], headers: Iterable[Header]) -> bytes:
        """Status line and headers, with the empty line."""
        return self._start(status, common) + _lines(headers) + b"\r\n"

    def _start(self, status: int, common: Sequence[Header]) -> bytes:
        if common is not self._common:
            self._common = common
            self._starts.clear()
        start = self._starts.get(status)
        if start is None:
            start = self._starts[status] = STATUS_LINE[status] + _lines(common)
        return start


def _lines(headers: Iterable[Header]) -> bytes:
    return b"".join([name + b": " + value + b"\r\n" for name, value in headers])


heads = ResponseHeads()
