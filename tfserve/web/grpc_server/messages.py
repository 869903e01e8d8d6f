"""gRPC's messages: their prefix, compression, and reading them as protobuf."""

from __future__ import annotations

import struct
import zlib
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError, Message

from tfserve.errors import Invalid, TooLarge
from tfserve.web.http.offload import offloaded
from tfserve.web.predictions import message_expansion

PREFIX_BYTES = 5
SMALL_BYTES = 16 * 1024
"""A message of at most this size stays small when it is parsed."""
ENCODINGS = {b"identity": 0, b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
"""The value of grpc-encoding → zlib's number for the format."""

PUBLIC_BYTES = 4096
"""The maximum size of a message without a token: that of a health check has at most the name of a model."""

prefix = struct.Struct(">BI")


class MessageTooLarge(TooLarge):
    """The message is larger than {limit} bytes (max_body_bytes; 4096 without a token)."""


def check_prefix(flag: int, size: int, limit: int) -> None:
    """Raises `MessageTooLarge`, `Invalid`."""
    if flag > 1:
        raise Invalid(f"A gRPC message begins with 0 or 1 (compressed), got {flag}.")
    if size > limit:
        raise MessageTooLarge(limit=limit)


async def decompressed(data: bytes, encoding: bytes, limit: int) -> bytes:
    """In a thread. Raises `MessageTooLarge`, `Invalid`."""
    if encoding == b"identity":
        raise Invalid("The message is marked as compressed, but grpc-encoding is missing or identity.")
    return await offloaded(partial(_decompress, data, encoding, limit))


def _decompress(data: bytes, encoding: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj(ENCODINGS[encoding])
    try:
        content = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise Invalid(f"The message can't be decompressed as {encoding.decode()}: {error}.") from None
    if len(content) > limit:
        raise MessageTooLarge(limit=limit)
    if not stream.eof:
        raise Invalid(f"The compressed message ({encoding.decode()}) is truncated.")
    return content


def is_light(data: bytes, kind: type[Message]) -> bool:
    """Whether reading the message takes no time worth mentioning."""
    return len(data) <= SMALL_BYTES or message_expansion.is_small(data, kind.DESCRIPTOR)


def read(kind: type[Message], data: bytes) -> Any:
    """Raises `Invalid`."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise Invalid(
            f"The message of {len(data)} bytes can't be read as {kind.DESCRIPTOR.full_name}: it is damaged or of"
            " another type. GET /v2 and gRPC reflection list what this server offers."
        ) from None


async def read_heavy(kind: type[Message], data: bytes) -> Any:
    """A message that is made of much, in a thread. Raises `Invalid`, `TooLarge`."""
    return await offloaded(partial(_checked, kind, data))


def _checked(kind: type[Message], data: bytes) -> Any:
    message_expansion.check(data, kind.DESCRIPTOR)
    return read(kind, data)
