"""Requests that offer another protocol. The server declines the offer, as HTTP allows, and serves the request.

Java's HttpClient offers HTTP/2 with its first request on each connection, unless it is set to HTTP/1.1.
"""

from __future__ import annotations

from collections.abc import Iterable

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Header = tuple[bytes, bytes]
OFFERS = frozenset((b"upgrade", b"http2-settings"))
"""Headers that make an offer, and the words that name them in `Connection`."""


class UpgradeDecliningProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which reads the body of a request that offers another protocol.

    The parser expects the other protocol right after such a head, so a new parser reads the request again without the
    offer.
    """

    _plain_head: bytes | None = None
    """The head that the new parser reads."""

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        unread = data
        while unread:
            try:
                self.parser.feed_data(unread)
                return
            except httptools.HttpParserError:
                message = "Invalid HTTP request received."
                self.logger.warning(message)
                self.send_400_response(message)
                return
            except httptools.HttpParserUpgrade as offer:
                head, self._plain_head = self._plain_head, None
                if head is None:
                    return
                unread = head + unread[offer.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's

    def head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def declines_upgrade(self) -> bool:
        """Whether the parser stops after the head that has arrived, which will be read again."""
        parser = self.parser
        if not parser.should_upgrade() or (method := parser.get_method()) == b"CONNECT":
            return False
        lines = [b"%b %b HTTP/%b" % (method, self.url, parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in _without_offer(self.headers)]
        self._plain_head = b"\r\n".join([*lines, b"", b""])
        return True


def _without_offer(headers: Iterable[Header]) -> Iterable[Header]:
    for name, value in headers:
        if name == b"connection":
            words = [word.strip() for word in value.split(b",")]
            value = b", ".join(word for word in words if word.lower() not in OFFERS)
        if name not in OFFERS and (value or name != b"connection"):
            yield name, value
