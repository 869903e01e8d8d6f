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
        return self._start(status, common) + lines(headers) + b"\r\n"

    def head_of(self, status: int, common: Sequence[Header], length: int, more: bytes) -> bytes:
        """The same for a body of `length` bytes, with the lines of all other headers."""
        return b"%bcontent-length: %d\r\n%b\r\n" % (self._start(status, common), length, more)

    def _start(self, status: int, common: Sequence[Header]) -> bytes:
        if common is not self._common:
            self._common = common
            self._starts.clear()
        start = self._starts.get(status)
        if start is None:
            start = self._starts[status] = STATUS_LINE[status] + lines(common)
        return start


def lines(headers: Iterable[Header]) -> bytes:
    """The lines of headers in a response."""
    return b"".join([name + b": " + value + b"\r\n" for name, value in headers])


heads = ResponseHeads()
