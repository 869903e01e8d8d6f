"""What a connection sends: frames that are collected into one write, and data as far as the peer's windows allow."""

from __future__ import annotations

import asyncio
from typing import Any

from tfserve.web.http2 import frames
from tfserve.web.http2.budget import Budget
from tfserve.web.http2.frames import DATA, ErrorCode, head
from tfserve.web.http2.streams import WINDOW_BYTES, Stream

PIECES = 64
"""The number of frames that are written without waiting for more."""


class Outgoing:
    """The sending half of a connection, and its open streams."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.peer: Any = None
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, Stream] = {}
        self._budget = Budget()
        #: what may be sent on all streams together, and on each new one
        self._sendable = frames.DEFAULT_WINDOW
        self.initial_window = frames.DEFAULT_WINDOW
        self.frame_bytes = frames.MAX_FRAME_BYTES
        #: streams with something to send, which wait for the connection's window or for the transport
        self._blocked: dict[Stream, None] = {}
        self._is_paused = self._is_draining = False
        self._frames: list[bytes | memoryview] = []

    def send(self, data: bytes) -> None:
        """Sends complete frames, in one write with those that follow in the same iteration of the event loop."""
        if not self._frames:
            self.loop.call_soon(self._write)
        self._frames.append(data)
        if len(self._frames) >= PIECES:
            self._write()

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def may_send(self, size: int) -> bool:
        """Whether `size` bytes of data can be sent now; they count as sent then."""
        if size > self._sendable or self._is_paused or self._blocked:
            return False
        self._sendable -= size
        return True

    def pump(self, stream: Stream) -> None:
        """Sends what a stream has, as far as possible."""
        unsent = stream.unsent
        while unsent:
            piece = unsent[0]
            if piece.__class__ is memoryview:
                if not self._send_data(stream, piece):
                    if self._is_full:
                        self._blocked[stream] = None
                    return  # otherwise it waits for its own window
            elif piece:
                self.send(piece)  # type: ignore[arg-type]
            else:
                unsent.clear()
                self._blocked.pop(stream, None)
                self.finished(stream)
                return
            unsent.popleft()
        self._blocked.pop(stream, None)
        stream.sent()

    def _send_data(self, stream: Stream, data: memoryview) -> bool:
        """Whether all of it was sent. The rest replaces it."""
        at, size = 0, len(data)
        while at < size:
            length = min(size - at, self.frame_bytes, self._sendable, stream.sendable)
            if length <= 0 or self._is_paused:
                assert stream.unsent is not None
                stream.unsent[0] = data[at:]
                return False
            self.send(head(length, DATA, 0, stream.id))
            self.send(data[at : at + length])  # type: ignore[arg-type]
            self._sendable -= length
            stream.sendable -= length
            at += length
        return True

    @property
    def _is_full(self) -> bool:
        """Whether no stream can send data."""
        return self._is_paused or self._sendable <= 0

    def _pump_blocked(self) -> None:
        while self._blocked and not self._is_full:
            stream = next(iter(self._blocked))
            del self._blocked[stream]
            self.pump(stream)

    def finished(self, stream: Stream) -> None:
        """The response has been sent. The client need not send the rest of its request."""
        self._budget.earn()
        if not stream.is_remote_closed:
            self.reset(stream.id, ErrorCode.NO_ERROR)
        self.closed(stream)

    def closed(self, stream: Stream) -> None:
        stream.is_closed = True
        stream.unsent = None
        self._blocked.pop(stream, None)
        self._streams.pop(stream.id, None)
        stream.sent()
        if self._is_draining:
            self._close_if_drained()

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        self.send(frames.rst_stream(stream_id, code))

    def take(self, stream: Stream, size: int) -> None:
        """The client may send `size` bytes more on the stream. It is notified when half of the window is used up."""
        stream.taken += size
        if stream.taken >= WINDOW_BYTES // 2 and not (stream.is_remote_closed or stream.is_closed):
            stream.receivable += stream.taken
            self.send(frames.window_update(stream.id, stream.taken))
            stream.taken = 0

    def _change_initial_window(self, size: int) -> None:
        """Applies to open streams too, whose windows may become negative."""
        change = size - self.initial_window
        self.initial_window = size
        for stream in list(self._streams.values()):
            stream.sendable += change
            if stream.unsent:
                self.pump(stream)

    def _close_if_drained(self) -> None:
        if self._is_draining and not self._streams and self._transport is not None:
            self._write()
            self._transport.close()

    def _write(self) -> None:
        pieces, self._frames = self._frames, []
        if pieces and self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(pieces)

    def _discard(self) -> None:
        self._frames = []
