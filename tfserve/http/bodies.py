"""Reads a request's body, up to a size, within a time, and unpacks it without being fooled."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from functools import partial

from starlette.types import Message, Receive, Scope

from tfserve.config import Settings
from tfserve.errors import Invalid, TimedOut, TooLarge
from tfserve.http.access_log import CURRENT
from tfserve.http.collecting import BodyCollector
from tfserve.http.offload import LARGE_BYTES
from tfserve.http.server import CONNECTION, HttpConnection

MUCH = 1024
BYTES_A_SECOND = 2**20
WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}


class BodyTooLarge(TooLarge):
    """The request body is larger than {limit} bytes, the most that is accepted here: max_body_bytes, or less for a \
model whose inputs all have fixed sizes."""


class BodyTooSlow(TimedOut):
    """The request body did not arrive in time ({timeout_s} s, and one more for every MiB)."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


async def read_body(scope: Scope, receive: Receive, settings: Settings, at_most: int | None = None) -> bytes:
    """The whole body, unpacked. Raises `BodyTooLarge`, `BodyTooSlow`, `Invalid`, `ClientGone`.

    `at_most` is how many bytes it may have if that is less than the server's own limit.
    """
    length, encoding = b"0", b"identity"
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = value
        elif name == b"content-encoding":
            encoding = value.lower()
    limit = settings.max_body_bytes if at_most is None else min(at_most, settings.max_body_bytes)
    if int(length) > limit:
        raise BodyTooLarge(limit=limit)
    connection: HttpConnection | None = scope.get(CONNECTION)
    if encoding == b"identity" and connection is not None:
        body = connection.whole_body(scope)
        if body is None and (collector := connection.collect(scope, limit)):
            body = await _collected(collector, settings, limit)
            if connection.is_lost:  # which may have happened behind the end of the body
                raise ClientGone
        if body is not None:
            if len(body) > limit:
                raise BodyTooLarge(limit=limit)
            if (entry := CURRENT.get()) is not None:
                entry.bytes_in += len(body)
            return body
    message = await _receive(receive, settings.body_timeout_s, settings)
    if not message.get("more_body") and encoding == b"identity":
        whole: bytes = message.get("body", b"")
        return whole
    unpack = _Unpacker(encoding, limit)
    await unpack.take(message.get("body", b""))
    started_at = asyncio.get_running_loop().time()
    received = len(message.get("body", b""))
    while message.get("more_body"):
        left_s = _left_s(received, started_at, settings)
        message = await _receive(receive, left_s, settings)
        received += len(message.get("body", b""))
        await unpack.take(message.get("body", b""))
    return await unpack.finish()


async def _collected(collector: BodyCollector, settings: Settings, limit: int) -> bytes:
    started_at = asyncio.get_running_loop().time()
    while not collector.done.is_set():
        left_s = _left_s(collector.size, started_at, settings)
        if left_s <= 0:
            raise BodyTooSlow(timeout_s=settings.body_timeout_s)
        with contextlib.suppress(TimeoutError):  # more may have come since, which gives it more time
            await asyncio.wait_for(collector.done.wait(), left_s)
    if collector.is_too_large:
        raise BodyTooLarge(limit=limit)
    if collector.is_lost:
        raise ClientGone
    return await asyncio.to_thread(collector.whole) if collector.size > LARGE_BYTES else collector.whole()


def _left_s(received: int, started_at: float, settings: Settings) -> float:
    """How long the rest of a body may take: each MiB that has come gives it another second."""
    return settings.body_timeout_s + received / BYTES_A_SECOND - asyncio.get_running_loop().time() + started_at


async def _receive(receive: Receive, timeout_s: float, settings: Settings) -> Message:
    try:
        async with asyncio.timeout(max(0.0, timeout_s)):
            message = await receive()
    except TimeoutError:
        raise BodyTooSlow(timeout_s=settings.body_timeout_s) from None
    return _arrived(message)


def _arrived(message: Message) -> Message:
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


class _Unpacker:
    """Puts the pieces of a body together; stops as soon as they come to more than the limit."""

    def __init__(self, encoding: bytes, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0
        self._inflate = None
        if encoding != b"identity":
            if encoding not in WINDOW_BITS:
                raise Invalid(f"the Content-Encoding {encoding.decode('latin-1')!r} is unknown: use gzip or deflate")
            self._inflate = zlib.decompressobj(WINDOW_BITS[encoding])

    async def take(self, data: bytes) -> None:
        """Takes in the next piece; what may be much once it is unpacked, in a thread, so that nobody waits for it."""
        if self._inflate is not None and len(data) > MUCH:
            await asyncio.to_thread(self._feed, data)
        else:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._inflate is not None:
            try:
                data = self._inflate.decompress(data, self._limit + 1 - self._size)
            except zlib.error as error:
                raise Invalid(f"the body is not what its Content-Encoding says: {error}") from error
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._limit:
            raise BodyTooLarge(limit=self._limit)

    async def finish(self) -> bytes:
        if self._inflate is not None and not self._inflate.eof:
            raise Invalid("the compressed body ends before its end")
        if self._inflate is not None and self._inflate.unused_data:
            raise Invalid("there is something behind the end of the compressed body")
        whole = partial(b"".join, self._pieces)
        return await asyncio.to_thread(whole) if self._size > LARGE_BYTES else whole()
