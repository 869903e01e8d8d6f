"""Reads request bodies with limits on size, time and decompressed size."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from functools import partial

from starlette.types import Message, Receive, Scope

from tfserve.config import Settings
from tfserve.errors import Invalid, TimedOut, TooLarge
from tfserve.web.http.access_log import CURRENT
from tfserve.web.http.body_collector import BodyCollector
from tfserve.web.http.connection import CONNECTION, HttpConnection
from tfserve.web.http.offload import LARGE_BYTES

THREAD_FROM_BYTES = 1024
"""Larger pieces are decompressed in a thread."""
BYTES_PER_S = 2**20
WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}


class BodyTooLarge(TooLarge):
    """The request body is larger than the limit of {limit} bytes (max_body_bytes, or less for a \
model whose inputs all have fixed sizes)."""


class BodyTooSlow(TimedOut):
    """Timed out reading the request body (limit: {timeout_s:g} s plus 1 s per MiB received)."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


async def read_body(scope: Scope, receive: Receive, settings: Settings, at_most: int | None = None) -> bytes:
    """The whole body, decompressed. Raises `BodyTooLarge`, `BodyTooSlow`, `Invalid`, `ClientGone`.

    `at_most` is a limit in bytes that may be lower than the server's own.
    """
    length, encoding = b"0", b"identity"
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = value
        elif name == b"content-encoding":
            encoding = value.lower()
    limit = limit_of(settings, at_most)
    if int(length) > limit:
        raise BodyTooLarge(limit=limit)
    connection: HttpConnection | None = scope.get(CONNECTION)
    if encoding == b"identity" and connection is not None:
        body = connection.whole_body(scope)
        if body is None and (collector := connection.collect(scope, limit)):
            body = await _collected(collector, settings, limit)
            if connection.is_lost:  # possibly after the end of the body
                raise ClientGone
        if body is not None:
            if len(body) > limit:
                raise BodyTooLarge(limit=limit)
            if (entry := CURRENT.get()) is not None:
                entry.bytes_in += len(body)
            return body
    message = await receive_message(receive, settings.body_timeout_s, settings)
    if not message.get("more_body") and encoding == b"identity":
        whole: bytes = message.get("body", b"")
        return whole
    decompressor = _Decompressor(encoding, limit)
    await decompressor.add(message.get("body", b""))
    started_at = asyncio.get_running_loop().time()
    received = len(message.get("body", b""))
    while message.get("more_body"):
        left_s = _left_s(received, started_at, settings)
        message = await receive_message(receive, left_s, settings)
        received += len(message.get("body", b""))
        await decompressor.add(message.get("body", b""))
    return await decompressor.finish()


def limit_of(settings: Settings, at_most: int | None) -> int:
    """The maximum size of a body in bytes. `at_most` is a limit that may be lower than the server's own."""
    return settings.max_body_bytes if at_most is None else min(at_most, settings.max_body_bytes)


def check_size(body: bytes, limit: int) -> None:
    """Raises `BodyTooLarge`."""
    if len(body) > limit:
        raise BodyTooLarge(limit=limit)


async def _collected(collector: BodyCollector, settings: Settings, limit: int) -> bytes:
    started_at = asyncio.get_running_loop().time()
    while not collector.done.is_set():
        left_s = _left_s(collector.size, started_at, settings)
        if left_s <= 0:
            raise BodyTooSlow(timeout_s=settings.body_timeout_s)
        with contextlib.suppress(TimeoutError):  # more data may have arrived, which extends the time
            await asyncio.wait_for(collector.done.wait(), left_s)
    if collector.is_too_large:
        raise BodyTooLarge(limit=limit)
    if collector.is_lost:
        raise ClientGone
    return await asyncio.to_thread(collector.whole) if collector.size > LARGE_BYTES else collector.whole()


def _left_s(received: int, started_at: float, settings: Settings) -> float:
    """Seconds that the rest of a body may take: each MiB that has been received adds one."""
    return settings.body_timeout_s + received / BYTES_PER_S - asyncio.get_running_loop().time() + started_at


async def receive_message(receive: Receive, timeout_s: float, settings: Settings) -> Message:
    """The next part of a body. Raises `BodyTooSlow`, `ClientGone`."""
    try:
        async with asyncio.timeout(max(0.0, timeout_s)):
            message = await receive()
    except TimeoutError:
        raise BodyTooSlow(timeout_s=settings.body_timeout_s) from None
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


class _Decompressor:
    """Joins the pieces of a body and decompresses them. Stops as soon as they exceed the limit."""

    def __init__(self, encoding: bytes, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0
        self._inflate = None
        if encoding != b"identity":
            if encoding not in WINDOW_BITS:
                raise Invalid(
                    f"the Content-Encoding {encoding.decode('latin-1')!r} is not supported; use gzip or deflate"
                )
            self._inflate = zlib.decompressobj(WINDOW_BITS[encoding])

    async def add(self, data: bytes) -> None:
        """Add the next piece. Large pieces are decompressed in a thread, so that they do not block the event loop."""
        if self._inflate is not None and len(data) > THREAD_FROM_BYTES:
            await asyncio.to_thread(self._feed, data)
        else:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._inflate is not None:
            try:
                data = self._inflate.decompress(data, self._limit + 1 - self._size)
            except zlib.error as error:
                raise Invalid(f"the body does not match its Content-Encoding: {error}") from error
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._limit:
            raise BodyTooLarge(limit=self._limit)

    async def finish(self) -> bytes:
        if self._inflate is not None and not self._inflate.eof:
            raise Invalid("the compressed body is truncated")
        if self._inflate is not None and self._inflate.unused_data:
            raise Invalid("the compressed body has trailing data")
        whole = partial(b"".join, self._pieces)
        return await asyncio.to_thread(whole) if self._size > LARGE_BYTES else whole()
