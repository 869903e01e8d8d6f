"""uvicorn's HTTP protocol with four additions: a fast path for small predictions, a time limit for request headers,
notice of clients that leave, and responses in one write."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tfserve.web.http.body_collector import BodyCollector
from tfserve.web.http.connection import CONNECTION
from tfserve.web.http.exchange import KEEP_ALIVE, MAX_BODY_BYTES, UNUSUAL, Exchange, FastApp, RequestHead
from tfserve.web.http.known_head import KnownHead
from tfserve.web.http.lingering import LingeringTransport
from tfserve.web.http.request_ids import fresh_id
from tfserve.web.http.response_bytes import Header, heads
from tfserve.web.http.timer_wheel import TimerWheel
from tfserve.web.http.upgrades import UpgradeDecliningProtocol

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
HEAD_TOO_LARGE = (
    b"431 Request Header Fields Too Large",
    f"The address and the headers of the request have more than {MAX_HEAD_BYTES} bytes.",
)
MAX_FRAMING_BYTES = 64 * 1024
"""What may arrive of a body in chunks without being part of it: sizes, extensions of chunks, and trailers."""
MAX_ONE_PIECE = 64 * 1024
ARRIVAL_S = 1.0
"""After this time, a body that is still arriving takes the path through ASGI, which has the limits for slow ones."""


def protocol_class(header_timeout_s: float, fast: FastApp | None) -> type[HttpProtocol]:
    """The protocol of a server. Its connections share two timers."""
    members = {
        "header_timeout_s": header_timeout_s,
        "fast": fast,
        "arriving": TimerWheel[HttpProtocol](lambda connection, _: connection.hand_over()),
    }
    return cast(type[HttpProtocol], type("Protocol", (HttpProtocol,), members))


class HttpProtocol(UpgradeDecliningProtocol):
    """An `HttpConnection` that is closed if the headers of a request are too slow or too large.

    A request that the fast application accepts waits in the `Exchange` of this connection until it has arrived. Only
    then, and for all others at once, uvicorn makes a scope and a task of it.
    """

    header_timeout_s = 10.0
    fast: FastApp | None
    arriving: TimerWheel[HttpProtocol]

    on_lost: Callable[[], object] | None = None
    _collector: BodyCollector | None = None
    _deadline: asyncio.TimerHandle | None = None
    _in_head = True
    _piece_bytes = 0
    _head_bytes = 0
    """Of a head, what has arrived after the piece that it begins in."""
    _refusal: tuple[bytes, str] | None = None
    _framing_bytes = 0
    """What has arrived since the last piece of a body."""
    _idle_since: float | None = None
    _arriving_slot: dict[HttpProtocol, float] | None = None
    _pieces: list[bytes] | None = None
    """The body of a request that the fast application will get."""
    _known: KnownHead | None = None
    _is_between = True
    """Whether the parser is at the end of a request."""
    _begun = 0
    """Requests that have begun in the data that is being parsed."""

    # --- the connection, as applications see it

    @property
    def is_lost(self) -> bool:
        return self.cycle.disconnected

    def whole_body(self, scope: Scope) -> bytes | None:
        cycle = self.cycle
        if cycle.more_body or cycle.scope is not scope or cycle.disconnected:
            return None
        body = bytes(cycle.body)
        cycle.body.clear()
        return body

    def collect(self, scope: Scope, limit: int) -> BodyCollector | None:
        cycle = self.cycle
        if cycle.scope is not scope or cycle.waiting_for_100_continue or cycle.disconnected:
            return None
        collector = self._collector = BodyCollector(limit)
        collector.add(bytes(cycle.body))
        cycle.body.clear()
        self.flow.resume_reading()
        return collector

    def respond(self, scope: Scope, status: int, headers: Sequence[Header], content: bytes) -> bool:
        cycle = self.cycle
        if cycle.disconnected:
            return True
        if not _is_simple(cycle, scope) or self.flow.write_paused or len(content) > MAX_ONE_PIECE:
            return False
        self.transport.write(heads.head(status, cycle.default_headers, headers) + content)
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    def send(self, status: int, headers: bytes, content: bytes, *, keep_alive: bool) -> None:
        """Sends the response of the fast application. `headers` are lines, without that of the length."""
        head = heads.head_of(status, self.server_state.default_headers, len(content), headers)
        if len(content) > MAX_ONE_PIECE:
            self.transport.writelines((head, content))
        else:
            self.transport.write(head + content)
        if not keep_alive:
            self.transport.close()
        self.on_response_complete()

    # --- the transport

    def connection_made(self, transport: Any) -> None:
        self._lingering = LingeringTransport(transport, is_within_request=self._is_within_body)
        super().connection_made(self._lingering)  # type: ignore[arg-type]  # it has what uvicorn uses
        self._exchange = Exchange(self)
        self._start_deadline()

    def data_received(self, data: bytes) -> None:
        if self._lingering.is_lingering:
            self._lingering.discard()
            return
        known = self._known
        if known is not None and known.begins(data) and self._repeats(known, data):
            return
        was_between, self._begun = self._is_between, 0
        self._piece_bytes = len(data)
        self._head_bytes += len(data)
        self._framing_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if was_between and self._is_between and self._begun == 1:
            self._remember(data)
        if self._in_head:  # rare: most headers arrive in one piece
            if self._deadline is None:
                self._start_deadline()
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refusal = HEAD_TOO_LARGE
                self.send_400_response("")
        elif self._framing_bytes > MAX_FRAMING_BYTES and not self._is_between:
            self.send_400_response(f"A body in chunks has more than {MAX_FRAMING_BYTES} bytes that are not part of it.")
        elif self._pieces is not None and self._arriving_slot is None:
            self._arriving_slot = self.arriving.add(self, ARRIVAL_S)

    def send_400_response(self, msg: str) -> None:
        """Ends the connection, with a response unless the client is waiting for that of an earlier request.

        Malformed requests get an id too, so that they can be found in the log.
        """
        self._drop_arriving()
        is_head, self._in_head, self._is_between = self._in_head, False, False  # what follows may be a body
        status, text = self._refusal or (b"400 Bad Request", msg)
        request_id, content = fresh_id(), text.encode("ascii")
        log.warning("%s [request %s]", text, request_id.decode())
        if not self._gets_refusal(is_head=is_head):
            self._lingering.abort()
            return
        head = b"HTTP/1.1 %b\r\nx-request-id: %b\r\nx-content-type-options: nosniff\r\n" % (status, request_id)
        rest = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
        self.transport.write(head + rest % (len(content), content))
        self.transport.close()

    def _gets_refusal(self, *, is_head: bool) -> bool:
        """Whether the next response that the client expects is that of the refused request."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        if is_head or self.pipeline or cycle.response_started:
            return False
        cycle.disconnected = True  # so that the application, which may have read a part of the body, sends nothing
        cycle.message_event.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_head = False
        self._lingering.closed()
        self._stop_deadline()
        self._unset_keepalive_if_required()
        self._drop_arriving()
        super().connection_lost(exc)
        if self._collector is not None:
            self._collector.lost()
        if self.on_lost is not None:
            self.on_lost()
        if not self._exchange.response_complete:
            self._exchange.lost()

    # --- the parser

    def on_message_begin(self) -> None:
        self._in_head = True
        self._is_between = False
        self._begun += 1
        self._head_bytes = self._framing_bytes = 0
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:  # a trailer, which must not change a request that has been admitted
            return
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._head_bytes + self._piece_bytes > MAX_HEAD_BYTES and self.head_size() > MAX_HEAD_BYTES:
            self._refusal = HEAD_TOO_LARGE
            raise OverflowError  # ends the parser, so that uvicorn calls `send_400_response`
        if self.declines_upgrade():
            return
        self._in_head = False
        self._framing_bytes = 0
        if self._deadline is not None:
            self._stop_deadline()
        if not self._begin_fast():
            self._begin_asgi()

    def on_body(self, body: bytes) -> None:
        self._framing_bytes = 0
        if self._pieces is not None:
            self._pieces.append(body)
        elif self._collector is None:
            super().on_body(body)
        else:
            self._collector.add(body)

    def on_message_complete(self) -> None:
        if self._plain_head is not None:
            return
        self._is_between = True
        pieces = self._pieces
        if pieces is None or self.fast is None:
            super().on_message_complete()
            self._collected()
            return
        exchange = self._exchange
        exchange.body = b"".join(pieces)
        if self.fast.admits(exchange):
            self._arrived()
            exchange.start(self.fast)
        else:
            self.hand_over()
            super().on_message_complete()

    # --- the fast path

    def _repeats(self, known: KnownHead, data: bytes) -> bool:
        """Takes a request that differs from an earlier one only in its body. Nothing of its head is read again."""
        exchange = self._exchange
        if self.fast is None or not self._is_between or not self.cycle.response_complete or self.flow.write_paused:
            return False
        exchange.begin(known.head)
        exchange.body = known.body_of(data)
        if not self.fast.admits(exchange):
            exchange.response_complete = True
            return False
        self._idle_since = None
        self.cycle = exchange  # type: ignore[assignment]  # as in `_begin_fast`
        exchange.start(self.fast)
        return True

    def _remember(self, data: bytes) -> None:
        """A request has arrived in one piece. Keeps its head if it took the fast path."""
        exchange = self._exchange
        if self.cycle is exchange and exchange.head is not None:  # type: ignore[comparison-overlap]
            self._known = KnownHead.of(data, exchange.body, exchange.head)

    def _begin_fast(self) -> bool:
        """Puts a request into the exchange if the fast application accepts it and it is ordinary in every way."""
        if self.fast is None or (path := self.fast.path(self.url)) is None:
            return False
        cycle, parser = self.cycle, self.parser
        if (cycle is not None and not cycle.response_complete) or self.flow.write_paused:
            return False
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1" or not parser.should_keep_alive():
            return False
        headers = dict(self.headers)
        if len(headers) < len(self.headers) or not UNUSUAL.isdisjoint(headers):
            return False
        if headers.get(b"connection", KEEP_ALIVE).lower() != KEEP_ALIVE:
            return False
        if int(headers.get(b"content-length", MAX_BODY_BYTES + 1)) > MAX_BODY_BYTES:
            return False
        self.cycle = self._exchange  # type: ignore[assignment]  # uvicorn needs only what both have
        self._exchange.begin(RequestHead(self._scope(path), headers))
        self._pieces = []
        return True

    def _scope(self, path: str) -> Scope:
        return {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": self.url,
            "query_string": b"",
            "headers": self.headers,
            "client": self.client,
            "scheme": self.scheme,
        }

    def hand_over(self) -> None:
        """Gives the request in the exchange to the ASGI application."""
        pieces, keep_alive = self._pieces, self._exchange.keep_alive
        if pieces is None:
            return
        self._drop_arriving()
        self._begin_asgi()
        self.cycle.keep_alive = self.cycle.keep_alive and keep_alive
        for piece in pieces:
            super().on_body(piece)

    def _begin_asgi(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        cast(dict[str, Any], self.scope)[CONNECTION] = self
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()

    def _drop_arriving(self) -> None:
        """The request in the exchange will not get a response from there."""
        if self._pieces is not None:
            self._arrived()
            self._exchange.response_complete = True

    def _arrived(self) -> None:
        self._pieces = None
        if self._arriving_slot is not None:
            self._arriving_slot.pop(self, None)
            self._arriving_slot = None

    # --- between requests

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.flow.read_paused and (self._lingering.is_lingering or not self.transport.is_closing()):
            self.flow.resume_reading()
        if self.transport.is_closing():
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            self._idle_since = time.monotonic()

    def close_if_idle(self, now: float) -> None:
        """Called for each connection once a second, because a timer for each response would cost more."""
        if self._idle_since is not None and now - self._idle_since >= self.timeout_keep_alive:
            self.timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def _collected(self) -> None:
        if self._collector is not None:
            self._collector.finish()
            self._collector = None

    def _start_deadline(self) -> None:
        self._deadline = self.loop.call_later(self.header_timeout_s, self._close)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _is_within_body(self) -> bool:
        """Whether the client may still be sending the body of the request that has got its response."""
        return not (self._is_between or self._in_head)

    def _close(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self._lingering.abort()


def _is_simple(cycle: RequestResponseCycle, scope: Scope) -> bool:
    """Whether this request has arrived completely, has no response yet, and leaves the connection open."""
    return (
        cycle.scope is scope
        and cycle.keep_alive
        and not (cycle.more_body or cycle.response_started or cycle.waiting_for_100_continue)
        and scope["method"] != "HEAD"
    )
