"""A connection of HTTP/2: frames in, flow control, and the limits that keep a peer from harming the server.

Peers that violate the protocol get a GOAWAY that says what is wrong, and are disconnected.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from tfserve.web.http2 import frames
from tfserve.web.http2.control_frames import ControlFrames
from tfserve.web.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD_BYTES,
    HEADERS,
    MAX_FRAME_BYTES,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_MASK,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    ConnectionProblem,
    ErrorCode,
    StreamProblem,
    unpack_head,
    without_padding,
)
from tfserve.web.http2.header_blocks import MAX_METADATA_BYTES, Field, HeaderDecoder
from tfserve.web.http2.outgoing import Outgoing
from tfserve.web.http2.streams import WINDOW_BYTES, Stream

log = logging.getLogger(__name__)

H = TypeVar("H")

CONNECTION_WINDOW = 16 * 1024 * 1024
"""What all streams of a connection together may have on the way. Windows of streams limit what is kept."""
MAX_BLOCK_BYTES = 64 * 1024
MAX_CONTINUATIONS = 16
MAX_KNOWN_BLOCKS = 32
MAX_KNOWN_BYTES = 1024
"""Header blocks that repeat are decoded once."""
HIGH_WATER = 1024 * 1024
"""With more than this waiting for a peer that does not read, nothing more is read from it."""
NOT_HTTP_2 = (
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    b"content-length: 74\r\n\r\nThis port serves gRPC, which requires HTTP/2. Use the HTTP port for REST.\n"
)


class Http2Connection(ControlFrames, asyncio.Protocol, Generic[H]):
    """`read_head` turns the fields of a request into what `open_stream` needs; equal blocks are read only once."""

    def __init__(
        self,
        read_head: Callable[[list[Field]], H],
        open_stream: Callable[[Outgoing, int, H], Stream],
        *,
        max_streams: int,
        preface_timeout_s: float,
    ) -> None:
        super().__init__()
        self._read_head = read_head
        self._open_stream = open_stream
        self._max_streams = max_streams
        self._preface_timeout_s = preface_timeout_s
        self._has_preface = False
        self._rest = b""
        self._decoder = HeaderDecoder()
        self._known: dict[bytes, H] = {}
        self._generation = 0
        #: the header block that continues in the next frame: stream, flags, pieces
        self._unfinished: tuple[int, int, list[bytes]] | None = None
        self._receivable = CONNECTION_WINDOW
        self.lost: asyncio.Future[None] = self.loop.create_future()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self.peer = transport.get_extra_info("peername")
        if (sock := transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # notices clients that are gone without a word
        self._deadline = self.loop.call_later(self._preface_timeout_s, self.abort)
        self.send(
            frames.settings(
                {
                    frames.MAX_CONCURRENT_STREAMS: self._max_streams,
                    frames.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
                    frames.MAX_HEADER_LIST_SIZE: MAX_METADATA_BYTES,
                }
            )
            + frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
        )

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        try:
            self._rest = self._receive(data) if self._has_preface else self._begin(data)
        except ConnectionProblem as problem:
            self._give_up(problem)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._is_paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._pump_blocked()

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._stop_deadline()
        for stream in list(self._streams.values()):
            self.closed(stream)
            stream.on_abort()
        if not self.lost.done():
            self.lost.set_result(None)

    # --- ending

    def drain(self) -> None:
        """Takes no new streams, and closes the connection when the last one has ended."""
        if self._is_draining or self._transport is None:
            return
        self._is_draining = True
        self.send(frames.goaway(self._last_id, ErrorCode.NO_ERROR))
        self._close_if_drained()

    def _give_up(self, problem: ConnectionProblem) -> None:
        self._rest = b""
        if self._transport is None or self._transport.is_closing():
            return
        log.info("gRPC client %s is disconnected: %s (%s)", self.peer, problem.text, problem.code.name)
        self.send(frames.goaway(self._last_id, problem.code, problem.text))
        self._write()
        self._transport.close()

    # --- receiving

    def _begin(self, data: bytes) -> bytes:
        """The first bytes of the client."""
        if len(data) < len(PREFACE) and PREFACE.startswith(data):
            return data
        if not data.startswith(PREFACE):
            assert self._transport is not None
            self._discard()
            self._transport.write(NOT_HTTP_2)
            self._transport.close()
            return b""
        self._has_preface = True
        return self._receive(data[len(PREFACE) :])

    def _receive(self, data: bytes) -> bytes:
        """Handles all frames that are complete; returns the rest. Raises `ConnectionProblem`."""
        at, size = 0, len(data)
        while size - at >= HEAD_BYTES:
            upper, lower, kind, flags, stream_id = unpack_head(data, at)
            length = upper << 8 | lower
            if length > MAX_FRAME_BYTES:
                raise ConnectionProblem(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            end = at + HEAD_BYTES + length
            if end > size:
                break
            payload = data[at + HEAD_BYTES : end]
            at = end
            try:
                self._frame(kind, flags, stream_id & STREAM_MASK, payload)
            except StreamProblem as problem:
                self._refuse(stream_id & STREAM_MASK, problem.code)
        return data[at:] if at < size else b""

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._unfinished is not None and kind != CONTINUATION:
            raise ConnectionProblem(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted by another frame")
        if kind == DATA:
            self._on_data(flags, stream_id, payload)
        elif kind == HEADERS:
            self._on_headers(flags, stream_id, payload)
        elif not self._has_settings and kind != SETTINGS:
            raise ConnectionProblem(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        elif kind == WINDOW_UPDATE:
            self._on_window_update(stream_id, payload)
        elif kind == RST_STREAM:
            self._on_reset(stream_id, payload)
        elif kind == PING:
            self._on_ping(flags, stream_id, payload)
        elif kind == SETTINGS:
            self._on_settings(flags, stream_id, payload)
        elif kind == CONTINUATION:
            self._on_continuation(flags, stream_id, payload)
        elif kind == PUSH_PROMISE:
            raise ConnectionProblem(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")
        elif kind == PRIORITY:
            self._on_priority(stream_id, payload)
        elif kind == GOAWAY and stream_id:
            raise ConnectionProblem(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        else:  # GOAWAY: the client closes the connection itself; unknown types are ignored, as the RFC requires
            self._budget.spend()

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._receivable -= size
        if self._receivable < CONNECTION_WINDOW // 2:
            if self._receivable < 0:
                raise ConnectionProblem(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window")
            self.send(frames.window_update(0, CONNECTION_WINDOW - self._receivable))
            self._receivable = CONNECTION_WINDOW
        stream = self._streams.get(stream_id)
        if stream is None or stream.is_remote_closed:
            if stream_id > self._last_id or not stream_id & 1:
                raise ConnectionProblem(ErrorCode.PROTOCOL_ERROR, f"DATA on stream {stream_id}, which is not open")
            self._budget.spend()  # the rest of a request that has been answered or cancelled
            return
        stream.receivable -= size
        if stream.receivable < 0:
            raise StreamProblem(ErrorCode.FLOW_CONTROL_ERROR)
        data = without_padding(payload, flags) if flags & frames.PADDED else payload
        if flags & END_STREAM:
            stream.is_remote_closed = True
            if data:
                stream.on_data(data)
            if not stream.is_closed:
                stream.on_end()
            return
        if not data:
            self._budget.spend()
        if len(data) < size:
            self.take(stream, size - len(data))
        stream.on_data(data)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionProblem(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}")
        if flags & frames.PADDED:
            payload = without_padding(payload, flags)
        if flags & WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionProblem(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without the priority that its flag says")
            if int.from_bytes(payload[:4]) & STREAM_MASK == stream_id:
                raise ConnectionProblem(ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")
            payload = payload[5:]
        if flags & END_HEADERS:
            self._on_block(flags, stream_id, payload)
        else:
            self._unfinished = stream_id, flags, [payload]
            if self._deadline is None:
                self._deadline = self.loop.call_later(self._preface_timeout_s, self.abort)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._unfinished is None or self._unfinished[0] != stream_id:
            raise ConnectionProblem(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without a header block to continue")
        _, first_flags, pieces = self._unfinished
        pieces.append(payload)
        if len(pieces) > MAX_CONTINUATIONS or sum(map(len, pieces)) > MAX_BLOCK_BYTES:
            raise ConnectionProblem(ErrorCode.ENHANCE_YOUR_CALM, f"a header block of over {MAX_BLOCK_BYTES} bytes")
        if flags & END_HEADERS:
            self._unfinished = None
            self._stop_deadline()
            self._on_block(first_flags, stream_id, b"".join(pieces))

    def _on_block(self, flags: int, stream_id: int, block: bytes) -> None:
        """A whole header block: the beginning of a request, or its trailers."""
        if not self._has_settings:
            raise ConnectionProblem(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if stream_id <= self._last_id:
            self._on_trailers(flags, stream_id, block)
            return
        self._last_id = stream_id
        head = self._known.get(block)
        if head is None:
            head = self._decoded(block)
        if len(self._streams) >= self._max_streams or self._is_draining:
            self._budget.spend()
            raise StreamProblem(ErrorCode.REFUSED_STREAM)
        stream = self._streams[stream_id] = self._open_stream(self, stream_id, head)
        stream.is_remote_closed = bool(flags & END_STREAM)
        stream.on_begin()
        if stream.is_remote_closed and not stream.is_closed:
            stream.on_end()

    def _on_trailers(self, flags: int, stream_id: int, block: bytes) -> None:
        """gRPC clients send none, so their content is ignored."""
        self._budget.spend()
        self._decoder.decode(block)
        self._forget_known()
        if (stream := self._streams.get(stream_id)) is None:
            return
        if stream.is_remote_closed:
            raise StreamProblem(ErrorCode.STREAM_CLOSED)
        if not flags & END_STREAM:
            raise StreamProblem(ErrorCode.PROTOCOL_ERROR)
        stream.is_remote_closed = True
        stream.on_end()

    def _decoded(self, block: bytes) -> H:
        """The head in a new block. It means the same again as long as the decoder's table does not change."""
        fields = self._decoder.decode(block)
        repeats = self._decoder.generation == self._generation
        self._forget_known()
        head = self._read_head(fields)
        if repeats and len(block) <= MAX_KNOWN_BYTES:
            if len(self._known) >= MAX_KNOWN_BLOCKS:
                self._known.clear()
            self._known[block] = head
        return head

    def _forget_known(self) -> None:
        if self._decoder.generation != self._generation:
            self._generation = self._decoder.generation
            self._known.clear()

    def _refuse(self, stream_id: int, code: ErrorCode) -> None:
        """Ends a stream because of what the client sent."""
        stream = self._streams.get(stream_id)
        self.reset(stream_id, code)
        if stream is not None:
            self.closed(stream)
            stream.on_abort()
