"""HTTP/2 frames: their layout, and the problems that end a stream or a connection."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
MAX_FRAME_BYTES = 16_384
"""The largest payload that a peer may send without having been allowed more."""
DEFAULT_WINDOW = 65_535
MAX_WINDOW = 2**31 - 1
STREAM_MASK = 2**31 - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

#: length (upper 16 bits, lower 8 bits), type, flags, stream
unpack_head = struct.Struct(">HBBBI").unpack_from
_pack_head = struct.Struct(">HBBBI").pack
_setting = struct.Struct(">HI")
_number = struct.Struct(">I")


class ErrorCode(IntEnum):
    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionProblem(Exception):
    """The peer violates the protocol, so the connection ends. `text` is for the people who debug the peer."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class StreamProblem(Exception):
    """The stream ends, the connection continues."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.name)
        self.code = code


def head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """The nine bytes in front of a payload."""
    return _pack_head(length >> 8, length & 0xFF, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return head(len(payload), kind, flags, stream) + payload


def settings(values: Mapping[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_setting.pack(key, value) for key, value in values.items()))


def window_update(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, _number.pack(size))


def rst_stream(stream: int, code: ErrorCode) -> bytes:
    return frame(RST_STREAM, 0, stream, _number.pack(code))


def goaway(last_stream: int, code: ErrorCode, text: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, _number.pack(last_stream) + _number.pack(code) + text.encode())


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Raises `ConnectionProblem`."""
    if len(payload) % _setting.size:
        raise ConnectionProblem(ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
    return list(_setting.iter_unpack(payload))


def read_number(payload: bytes, what: str) -> int:
    """The only content of WINDOW_UPDATE and RST_STREAM. Raises `ConnectionProblem`."""
    if len(payload) != _number.size:
        raise ConnectionProblem(ErrorCode.FRAME_SIZE_ERROR, f"{what} of {len(payload)} bytes, expected 4")
    (value,) = _number.unpack(payload)
    return int(value)


def without_padding(payload: bytes, flags: int) -> bytes:
    """The content of DATA and HEADERS. Raises `ConnectionProblem`."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionProblem(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]
