"""The frames that carry no request: settings, windows, pings, resets and priorities."""

from __future__ import annotations

import asyncio

from tfserve.web.http2 import frames
from tfserve.web.http2.frames import (
    ACK,
    MAX_FRAME_BYTES,
    MAX_WINDOW,
    PING,
    SETTINGS,
    STREAM_MASK,
    ConnectionProblem,
    ErrorCode,
    StreamProblem,
)
from tfserve.web.http2.outgoing import Outgoing

PING_BYTES = 8
PRIORITY_BYTES = 5
LARGEST_FRAME_SENT = 256 * 1024


class ControlFrames(Outgoing):
    """Handles them for a connection. The methods raise `ConnectionProblem` and `StreamProblem`."""

    def __init__(self) -> None:
        super().__init__()
        self._last_id = 0
        self._has_settings = False
        #: for the preface with the first settings, and for a header block in several frames
        self._deadline: asyncio.TimerHandle | None = None

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        size = frames.read_number(payload, "WINDOW_UPDATE") & MAX_WINDOW
        if not stream_id:
            if not size or self._sendable + size > MAX_WINDOW:
                raise ConnectionProblem(ErrorCode.FLOW_CONTROL_ERROR, f"WINDOW_UPDATE by {size}")
            self._sendable += size
            self._pump_blocked()
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            self._require_begun(stream_id, "WINDOW_UPDATE")
            return
        if not size or stream.sendable + size > MAX_WINDOW:
            raise StreamProblem(ErrorCode.FLOW_CONTROL_ERROR if size else ErrorCode.PROTOCOL_ERROR)
        stream.sendable += size
        if stream.unsent:
            self.pump(stream)

    def _on_reset(self, stream_id: int, payload: bytes) -> None:
        frames.read_number(payload, "RST_STREAM")
        self._budget.spend()
        self._require_begun(stream_id, "RST_STREAM")
        if (stream := self._streams.get(stream_id)) is not None:
            self.closed(stream)
            stream.on_abort()

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionProblem(ErrorCode.PROTOCOL_ERROR, f"PING on stream {stream_id}")
        if len(payload) != PING_BYTES:
            raise ConnectionProblem(ErrorCode.FRAME_SIZE_ERROR, f"PING of {len(payload)} bytes, expected {PING_BYTES}")
        self._budget.spend()
        if not flags & ACK:
            self.send(frames.frame(PING, ACK, 0, payload))

    def _on_priority(self, stream_id: int, payload: bytes) -> None:
        """Obsolete, so only checked."""
        self._budget.spend()
        if not stream_id:
            raise ConnectionProblem(ErrorCode.PROTOCOL_ERROR, "PRIORITY without a stream")
        if len(payload) != PRIORITY_BYTES:
            raise StreamProblem(ErrorCode.FRAME_SIZE_ERROR)
        if int.from_bytes(payload[:4]) & STREAM_MASK == stream_id:
            raise StreamProblem(ErrorCode.PROTOCOL_ERROR)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionProblem(ErrorCode.PROTOCOL_ERROR, f"SETTINGS on stream {stream_id}")
        self._budget.spend()
        if flags & ACK:
            if payload:
                raise ConnectionProblem(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement with settings")
            return
        for key, value in frames.read_settings(payload):
            self._apply(key, value)
        if not self._has_settings:
            self._has_settings = True
            self._stop_deadline()
        self.send(frames.frame(SETTINGS, ACK, 0))

    def _apply(self, key: int, value: int) -> None:
        if key == frames.INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise ConnectionProblem(ErrorCode.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE of {value}")
            self._change_initial_window(value)
        elif key == frames.MAX_FRAME_SIZE:
            if not MAX_FRAME_BYTES <= value < 2**24:
                raise ConnectionProblem(ErrorCode.PROTOCOL_ERROR, f"MAX_FRAME_SIZE of {value}")
            self.frame_bytes = min(value, LARGEST_FRAME_SENT)
        elif key == frames.ENABLE_PUSH and value > 1:
            raise ConnectionProblem(ErrorCode.PROTOCOL_ERROR, f"ENABLE_PUSH of {value}")

    def _require_begun(self, stream_id: int, what: str) -> None:
        if stream_id > self._last_id or not stream_id & 1:
            raise ConnectionProblem(ErrorCode.PROTOCOL_ERROR, f"{what} on stream {stream_id}, which is idle")

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
