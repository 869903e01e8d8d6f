"""Calls of methods that take a stream of messages and return one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from tfserve.errors import Invalid, TFserveError
from tfserve.web import rpc
from tfserve.web.grpc_server import statuses
from tfserve.web.grpc_server.calls import Call
from tfserve.web.grpc_server.edge import Edge
from tfserve.web.grpc_server.heads import Head
from tfserve.web.grpc_server.messages import PREFIX_BYTES, check_prefix, prefix
from tfserve.web.http2.frames import END_HEADERS, HEADERS, head
from tfserve.web.http2.outgoing import Outgoing

_HEADERS = statuses.RESPONSE_HEAD


class StreamingCall(Call):
    """Begins at once. A client that sends faster than the method reads has to wait at the end of its window."""

    __slots__ = ("_answers", "_arrived", "_buffer", "_error", "_owed", "_waiter")

    def __init__(self, connection: Outgoing, stream_id: int, head: Head, edge: Edge, answers: rpc.Stream) -> None:
        super().__init__(connection, stream_id, head, edge)
        self._answers = answers
        self._buffer = bytearray()
        #: messages that have not been read yet, each with its flag for compression
        self._arrived: deque[tuple[int, bytes]] = deque()
        self._owed = 0
        self._error: TFserveError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def on_begin(self) -> None:
        super().on_begin()
        if not self.is_closed:
            self.start()

    def on_data(self, data: bytes) -> None:
        if self._error is not None:
            return
        if self._arrived:
            self._owed += len(data)
        else:  # nothing waits, or only a part of a message, whose rest must be able to arrive
            self.take(len(data))
        self._buffer += data
        try:
            self._split()
        except TFserveError as error:
            self._error = error
        self._wake()

    def on_end(self) -> None:
        if self._buffer and self._error is None:
            self._error = Invalid(f"The last message is truncated: {len(self._buffer)} bytes of it have arrived.")
        self._wake()

    def _split(self) -> None:
        """Raises `MessageTooLarge`, `Invalid`."""
        buffer, at = self._buffer, 0
        while len(buffer) - at >= PREFIX_BYTES:
            flag, size = prefix.unpack_from(buffer, at)
            check_prefix(flag, size, self.limit)
            end = at + PREFIX_BYTES + size
            if end > len(buffer):
                break
            self._arrived.append((flag, bytes(buffer[at + PREFIX_BYTES : end])))
            at = end
        if at:
            del buffer[:at]

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _requests(self) -> AsyncIterator[Any]:
        while True:
            while self._arrived:
                flag, data = self._arrived.popleft()
                if not self._arrived and self._owed:
                    self.take(self._owed)
                    self._owed = 0
                yield await self.read(data, flag)
            if self._error is not None:
                raise self._error
            if self.is_remote_closed:
                return
            self._waiter = self._loop.create_future()
            await self._waiter

    async def run(self) -> None:
        await self.admit(0)
        async with aclosing(self._answers.answer(self._requests(), self)) as answers:
            async for each in answers:
                self._send(each.SerializeToString())
                await self.drained()
        self.end(statuses.ok(self.request_id))

    def _send(self, response: bytes) -> None:
        headers = head(len(_HEADERS), HEADERS, END_HEADERS, self.id) + _HEADERS if self.unsent is None else b""
        self.write(headers, prefix.pack(0, len(response)) + response)
