"""Requests that are not gRPC calls."""

from __future__ import annotations

from tfserve.web.grpc_server import statuses
from tfserve.web.grpc_server.heads import NotGrpc
from tfserve.web.http2.frames import END_HEADERS, HEADERS, head
from tfserve.web.http2.outgoing import Outgoing
from tfserve.web.http2.streams import Stream


class ForeignRequest(Stream):
    """Gets HTTP's status and a text that says what this port serves."""

    __slots__ = ("_why",)

    def __init__(self, connection: Outgoing, stream_id: int, why: NotGrpc) -> None:
        super().__init__(connection, stream_id)
        self._why = why

    def on_begin(self) -> None:
        headers, body = statuses.http_response(self._why.status, self._why.text)
        self.write(head(len(headers), HEADERS, END_HEADERS, self.id) + headers, body)
        self.close()

    def on_data(self, data: bytes) -> None:
        """Unused: the request is refused because of its headers."""

    def on_end(self) -> None:
        """Unused."""

    def on_abort(self) -> None:
        """Nothing has begun."""
