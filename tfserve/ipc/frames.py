"""What a message looks like on a socket. No I/O here.

4 bytes  length of what follows, little-endian
8 bytes  request id: an answer carries the id of its question with the top bit set, 0 wants no answer
n bytes  the message as msgpack, tagged with the name of its class
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from tfserve.errors import TooLarge
from tfserve.ipc.messages import Message

HEADER = struct.Struct("<IQ")
ANSWER = 1 << 63
MAX_FRAME_BYTES = 512 * 1024 * 1024

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


class BrokenFrame(Exception):
    """What came over the socket is not a frame of ours: the two ends do not fit together."""


def encode(request_id: int, message: Message) -> bytes:
    """One frame. Raises `TooLarge` when the message does not fit."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise TooLarge(f"a message of {len(body)} bytes is larger than the {MAX_FRAME_BYTES} that processes exchange")
    return HEADER.pack(len(body) + 8, request_id) + body


class FrameReader:
    """Cuts a stream of bytes into messages, however the bytes were split on the way."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, Message]]:
        """Yields the (request id, message) pairs that are complete with `data`. Raises `BrokenFrame`."""
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            length, request_id = HEADER.unpack_from(self._buffer)
            if not 8 < length <= MAX_FRAME_BYTES + 8:
                raise BrokenFrame(f"a frame of {length} bytes was announced")
            end = 4 + length
            if len(self._buffer) < end:
                return
            body = bytes(memoryview(self._buffer)[HEADER.size : end])
            del self._buffer[:end]
            yield request_id, decode(body)


def decode(body: bytes) -> Message:
    try:
        message: Message = _decoder.decode(body)
        return message
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokenFrame(str(error)) from error
