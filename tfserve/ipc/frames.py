"""The format of a message on a socket. No I/O here.

4 bytes  length of what follows, little-endian
8 bytes  request id: a response has the id of its request with the top bit set; 0 is for messages without a response
n bytes  the message as msgpack, tagged with the name of its class
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Union

import msgspec

from tfserve.errors import Invalid, TooLarge
from tfserve.ipc.messages import Message, Request

HEADER = struct.Struct("<IQ")
RESPONSE = 1 << 63
MAX_FRAME_BYTES = 512 * 1024 * 1024


def _classes(base: type[Message]) -> list[type[Message]]:
    """All message classes that are derived from a class."""
    return [found for each in base.__subclasses__() for found in (each, *_classes(each)) if found is not Request]


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Union[tuple(_classes(Message))])  # noqa: UP007


class BrokenFrame(Exception):
    """The data on the socket is not a frame: the two ends run different versions."""


def encode(request_id: int, message: Message) -> bytes:
    """One frame. Raises `TooLarge`, and `Invalid` for an integer that has more than 64 bits."""
    try:
        body = _encoder.encode(message)
    except OverflowError as error:
        raise Invalid(f"an integer is out of range: {error}") from error
    if len(body) > MAX_FRAME_BYTES:
        raise TooLarge(f"a message of {len(body)} bytes is larger than the {MAX_FRAME_BYTES} that processes exchange")
    return HEADER.pack(len(body) + 8, request_id) + body


class FrameSplitter:
    """Splits a stream of bytes into whole frames, without reading them."""

    def __init__(self, limit_bytes: int = MAX_FRAME_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._buffer = bytearray()

    def split(self, data: bytes) -> Iterator[bytes]:
        """Yields the frames that are complete with `data`. Raises `BrokenFrame`."""
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            length = HEADER.unpack_from(self._buffer)[0]
            if not 8 < length <= self.limit_bytes + 8:
                raise BrokenFrame(f"invalid frame length: {length} bytes")
            end = 4 + length
            if len(self._buffer) < end:
                return
            frame = bytes(memoryview(self._buffer)[:end])
            del self._buffer[:end]
            yield frame


class FrameReader(FrameSplitter):
    """Splits a stream of bytes into messages."""

    def feed(self, data: bytes) -> Iterator[tuple[int, Message]]:
        """Yields the (request id, message) pairs that are complete with `data`. Raises `BrokenFrame`."""
        return map(read, self.split(data))


def read(frame: bytes) -> tuple[int, Message]:
    """The request id and the message of a whole frame. Raises `BrokenFrame`."""
    return HEADER.unpack_from(frame)[1], decode(memoryview(frame)[HEADER.size :])


def pack(message: Message) -> bytes:
    """A message without the header of a frame, to be sent inside of another message. `decode` reads it."""
    return _encoder.encode(message)


def decode(body: bytes | memoryview) -> Message:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokenFrame(str(error)) from error
