"""Calls of methods that take a stream of messages and return one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from tfserve.access.principals import ANONYMOUS
from tfserve.errors import Invalid
from tfserve.web import rpc
from tfserve.web.access.authenticator import TokenEnded
from tfserve.web.access.token_limits import TooManyPerSecond
from tfserve.web.grpc_server import statuses
from tfserve.web.grpc_server.calls import GrpcCall
from tfserve.web.grpc_server.edge import Edge
from tfserve.web.grpc_server.heads import CallHead
from tfserve.web.grpc_server.messages import PREFIX_BYTES, check_prefix, prefix
from tfserve.web.http2.frames import END_HEADERS, HEADERS, ErrorCode, StreamProblem, head
from tfserve.web.http2.outgoing import Outgoing

_HEADERS = statuses.RESPONSE_HEAD


class StreamingCall(GrpcCall):
    """Begins at once. A client that sends faster than the method reads has to wait at the end of its window."""

    __slots__ = ("_answers", "_buffer", "_is_revoked", "_owed", "_waiter")

    def __init__(
        self, connection: Outgoing, stream_id: int, head: CallHead, edge: Edge, answers: rpc.StreamMethod
    ) -> None:
        super().__init__(connection, stream_id, head, edge)
        self._answers = answers
        self._is_revoked = False
        self._buffer = bytearray()
        #: what has arrived since the client was last allowed to send more
        self._owed = 0
        self._waiter: asyncio.Future[None] | None = None

    def on_begin(self) -> None:
        super().on_begin()
        if not self._is_over:
            self.start()

    def on_data(self, data: bytes) -> None:
        if self._is_over or self._refusal is not None:
            return
        self._buffer += data
        if self._principal is ANONYMOUS and len(self._buffer) > PREFIX_BYTES + self.limit:
            raise StreamProblem(ErrorCode.ENHANCE_YOUR_CALM)  # more than the one message that these methods take
        self._owed += len(data)
        self._wake()

    def on_end(self) -> None:
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _requests(self) -> AsyncIterator[Any]:
        """Raises `MessageTooLarge`, `Invalid`, `Unauthenticated`, `Overloaded`."""
        is_first = True
        while True:
            while (message := self._next()) is not None:
                if not is_first:  # the first one was admitted with the call
                    await self._admit_another()
                is_first = False
                yield await self.read(message[PREFIX_BYTES:], message[0])
            if self.is_remote_closed:
                if self._buffer:
                    raise Invalid(f"The last message is truncated: {len(self._buffer)} bytes of it have arrived.")
                return
            self.take(self._owed)
            self._owed = 0
            self._waiter = self._loop.create_future()
            await self._waiter

    async def _admit_another(self) -> None:
        """A message above the limit of the token waits, and flow control makes the client wait too."""
        while True:
            try:
                return self.admit_another()
            except TooManyPerSecond as error:
                await asyncio.sleep(1 / error.detail["limit"])

    def _next(self) -> bytes | None:
        """The next message with its prefix; None as long as it is not complete."""
        buffer = self._buffer
        if len(buffer) < PREFIX_BYTES:
            return None
        flag, size = prefix.unpack_from(buffer)
        check_prefix(flag, size, self.limit)
        end = PREFIX_BYTES + size
        if end > len(buffer):
            return None
        message = bytes(buffer[:end])
        del buffer[:end]
        return message

    async def run(self) -> None:
        await self.admit(0)
        metadata = self.head.metadata
        credentials = metadata.get(b"authorization"), metadata.get(b"x-api-key")
        if self._principal is not ANONYMOUS:
            self._edge.authenticator.watch(*credentials, self._end_with_token)
        async with aclosing(self._answers.answer(self._requests(), self)) as answers:
            async for each in answers:
                self._send(each.SerializeToString())
                await self.drained()
        self.end(statuses.ok(self.request_id))

    def _end_with_token(self) -> None:
        """The token was revoked. Without this, a stream would last until its next message."""
        self._is_revoked = True
        if self._task is not None:
            self._task.cancel()

    def _cancelled(self) -> None:
        if self._is_revoked:
            self._fail(TokenEnded())
        else:
            super()._cancelled()

    def _leave(self) -> None:
        self._edge.authenticator.unwatch(self._end_with_token)
        super()._leave()

    def _send(self, response: bytes) -> None:
        headers = head(len(_HEADERS), HEADERS, END_HEADERS, self.id) + _HEADERS if self.unsent is None else b""
        self.write(headers, prefix.pack(0, len(response)) + response)
