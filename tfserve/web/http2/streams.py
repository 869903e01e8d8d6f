"""One stream of a connection: a request, and what is still to be sent in response."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from tfserve.web.http2.frames import DATA, END_HEADERS, END_STREAM, HEADERS, ErrorCode, head

if TYPE_CHECKING:
    from tfserve.web.http2.outgoing import Outgoing

WINDOW_BYTES = 1024 * 1024
"""What a client may send of a request before the server has taken some of it."""


class Stream:
    """A subclass handles the request: `on_begin`, `on_data`, `on_end` and `on_abort` are called as it arrives."""

    __slots__ = (
        "_drained",
        "connection",
        "id",
        "is_closed",
        "is_ended",
        "is_remote_closed",
        "receivable",
        "sendable",
        "taken",
        "unsent",
    )

    def __init__(self, connection: Outgoing, stream_id: int) -> None:
        self.connection = connection
        self.id = stream_id
        #: the flow control windows of both directions
        self.receivable = WINDOW_BYTES
        self.sendable = connection.initial_window
        #: what was taken and not yet reported to the client
        self.taken = 0
        #: what waits for a window: frames that are complete, and data that are to be split into frames
        self.unsent: deque[bytes | memoryview] | None = None
        self.is_remote_closed = False
        #: whether the whole response was written, and whether the stream is over
        self.is_ended = self.is_closed = False
        self._drained: asyncio.Future[None] | None = None

    def on_begin(self) -> None:
        raise NotImplementedError

    def on_data(self, data: bytes) -> None:
        raise NotImplementedError

    def on_end(self) -> None:
        """The request is complete."""
        raise NotImplementedError

    def on_abort(self) -> None:
        """The client has cancelled the request, or is gone."""
        raise NotImplementedError

    def respond(self, headers: bytes, data: bytes, trailers: bytes) -> None:
        """Sends a whole response: two header blocks, and the data between them."""
        connection, size = self.connection, len(data)
        if self.is_closed:
            return
        if size <= connection.frame_bytes and size <= self.sendable and connection.may_send(size):
            stream_id = self.id
            self.sendable -= size
            connection.send(
                b"".join(
                    (
                        head(len(headers), HEADERS, END_HEADERS, stream_id),
                        headers,
                        head(size, 0, 0, stream_id),
                        data,
                        head(len(trailers), HEADERS, END_HEADERS | END_STREAM, stream_id),
                        trailers,
                    )
                )
            )
            connection.finished(self)
            return
        self.write(head(len(headers), HEADERS, END_HEADERS, self.id) + headers, data)
        self.finish(trailers)

    def write(self, frames: bytes, data: bytes) -> None:
        """Sends complete frames, and data as far as the windows allow. The rest follows when they open."""
        if self.is_closed or self.is_ended:
            return
        if self.unsent is None:
            self.unsent = deque()
        if frames:
            self.unsent.append(frames)
        if data:
            self.unsent.append(memoryview(data))
        self.connection.pump(self)

    def finish(self, trailers: bytes) -> None:
        """Ends the stream with a header block, after everything that was written."""
        self._end(head(len(trailers), HEADERS, END_HEADERS | END_STREAM, self.id) + trailers)

    def close(self) -> None:
        """Ends the stream without trailers, after everything that was written."""
        self._end(head(0, DATA, END_STREAM, self.id))

    def _end(self, frame: bytes) -> None:
        if self.is_closed or self.is_ended:
            return
        self.is_ended = True
        if self.unsent is None:
            self.unsent = deque()
        self.unsent.append(frame)
        self.unsent.append(b"")  # the end
        self.connection.pump(self)

    def abandon(self) -> None:
        """Ends the stream without the rest of the response."""
        if not self.is_closed:
            self.connection.reset(self.id, ErrorCode.CANCEL)
            self.connection.closed(self)

    async def drained(self) -> None:
        """Returns when everything that was written has been sent."""
        if self.unsent and not self.is_closed:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def sent(self) -> None:
        """Everything has been sent, or never will be."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def take(self, size: int) -> None:
        """The client may send that many bytes more."""
        self.connection.take(self, size)
