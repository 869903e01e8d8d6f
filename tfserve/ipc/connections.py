"""The two ends of a socket between processes: one on an event loop, one for threads.

When a connection is lost, all requests that wait for their response fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NoReturn, TypeVar, cast

from tfserve.errors import Internal, TFserveError, Unavailable, from_failure
from tfserve.ipc import frames
from tfserve.ipc.messages import Done, Failed, Message, Request
from tfserve.ipc.messages.base import to_response

log = logging.getLogger(__name__)

RECEIVE_BYTES = 256 * 1024

R = TypeVar("R")

Handler = Callable[[Message], Awaitable[Any]]
"""Returns the response to a message: another message, or a value to send in `Done`."""


class ConnectionLost(Exception):
    """The process at the other end is gone, so there will be no response."""


class CancelledInside(Unavailable):
    """What this request waited for was cancelled. Send it again."""


class Connection(asyncio.Protocol):
    """Many requests in flight over one socket, in both directions.

    `handler` handles the messages of the other end; an error that it raises is sent back as data. Use a connection
    from its own event loop only.
    """

    def __init__(self, handler: Handler | None = None, *, first_id: int = 1, limit_bytes: int | None = None) -> None:
        """`first_id` is that of the first request. A peer that sends a frame above `limit_bytes` is disconnected."""
        self.lost = asyncio.get_running_loop().create_future()
        self._handler = handler
        self._responses: dict[int, asyncio.Future[Message]] = {}
        self._ids = itertools.count(first_id)
        self._reader = frames.FrameReader(limit_bytes or frames.MAX_FRAME_BYTES)
        self._transport: asyncio.Transport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusal: TFserveError | None = None

    @classmethod
    async def open(cls, sock: socket.socket, handler: Handler | None = None) -> Connection:
        """Takes over a connected stream socket."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: cls(handler), sock=sock)
        return connection

    async def ask(self, request: Request[R]) -> R:
        """Sends a request and returns the response to it. Raises the error of the other end, or `ConnectionLost`."""
        request_id = next(self._ids)
        response: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._responses[request_id] = response
        try:
            self._send(request_id, request)
            message = await response
        finally:
            self._responses.pop(request_id, None)
        if isinstance(message, Failed):
            raise from_failure(message.failure)
        return to_response(request, message)

    def notify(self, message: Message) -> None:
        """Sends a message that needs no response. Does nothing when the other end is gone."""
        if not self.lost.done():
            self._send(0, message)

    def refuse_pending(self, refusal: TFserveError) -> None:
        """Cancels all requests of the other end that are being handled, and responds to them with this error."""
        self._refusal = refusal
        for task in list(self._tasks):
            task.cancel()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Closes it without sending what is still buffered: the other end does not respond."""
        if self._transport is not None:
            self._transport.abort()

    def about_peer(self, what: str) -> Any:
        """What asyncio knows of the other end, such as `peername` or `ssl_object`; None when it is gone."""
        return self._transport.get_extra_info(what) if self._transport is not None else None

    def allow_large_frames(self) -> None:
        """Lifts the limit of a peer that has proved what it is."""
        self._reader.limit_bytes = frames.MAX_FRAME_BYTES

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, but does not inherit from it

    def data_received(self, data: bytes) -> None:
        try:
            for request_id, message in self._reader.feed(data):
                self._received(request_id, message)
        except frames.BrokenFrame:
            log.exception("a peer process violated the protocol")
            self.close()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        for response in self._responses.values():
            if not response.done():
                response.set_exception(ConnectionLost())

    # --- internal

    def _send(self, request_id: int, message: Message) -> None:
        if self._transport is None or self.lost.done():
            raise ConnectionLost
        self._transport.write(frames.encode(request_id, message))

    def _received(self, request_id: int, message: Message) -> None:
        if request_id & frames.RESPONSE:
            response = self._responses.get(request_id ^ frames.RESPONSE)
            if response is not None and not response.done():
                response.set_result(message)
        elif self._handler is not None:
            task = asyncio.get_running_loop().create_task(self._handle(self._handler, request_id, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _handle(self, handler: Handler, request_id: int, message: Message) -> None:
        response: Message
        try:
            result = await handler(message)
            response = result if isinstance(result, Message) else Done(value=result)
        except TFserveError as error:
            response = Failed(failure=error.to_failure())
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._refusal is None and (task is None or task.cancelling()):
                raise
            # Otherwise not this task was cancelled, but one that it waited for: the other end would wait indefinitely.
            response = Failed(failure=(self._refusal or CancelledInside()).to_failure())
        except Exception:
            log.exception("while handling %s", type(message).__name__)
            response = Failed(failure=Internal().to_failure())
        if request_id:
            try:
                self._send(request_id | frames.RESPONSE, response)
            except ConnectionLost:
                log.info("dropped the response to %s: the caller has stopped waiting", type(message).__name__)


class BlockingConnection:
    """The worker's end: one thread receives, any thread responds.

    A process that can't respond any more exits with the code EX_IOERR, because the other end waits for the response.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._inode = os.fstat(sock.fileno()).st_ino
        self._closed = False
        self._sending = threading.Lock()

    def receive(self) -> Iterator[tuple[int, Message]]:
        """Yields requests as they come, until the other end closes."""
        reader = frames.FrameReader()
        while data := self._receive_some():
            yield from reader.feed(data)

    def answer(self, request_id: int, message: Message) -> None:
        """Responds to a request. Does nothing when the other end is gone. What can't be a frame becomes `Failed`."""
        try:
            frame = frames.encode(request_id | frames.RESPONSE, message)
        except Exception as error:
            log.warning("a response can't be sent: %s: %s", type(error).__name__, error)
            failed = error if isinstance(error, TFserveError) else Internal()
            frame = frames.encode(request_id | frames.RESPONSE, Failed(failure=failed.to_failure()))
        self._send(frame)

    def notify(self, message: Message) -> None:
        self._send(frames.encode(0, message))

    def close(self) -> None:
        """Sends nothing from now on. For a forked child, which must not use its parent's connection."""
        self._closed = True
        self._socket.close()

    def _send(self, frame: bytes) -> None:
        if self._closed:
            return
        try:
            with self._sending:
                self._check()
                self._socket.sendall(frame)
        except ConnectionError:
            log.info("the supervisor is gone")
        except OSError as error:
            _end_process(error)

    def _check(self) -> None:
        """Raises `OSError` when a script has closed the descriptor, or it belongs to another file by now."""
        if os.fstat(self._socket.fileno()).st_ino != self._inode:
            raise OSError("its descriptor belongs to another file")

    def _receive_some(self) -> bytes:
        try:
            return self._socket.recv(RECEIVE_BYTES)
        except OSError:
            return b""


def _end_process(error: OSError) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, f"This worker exits: its connection to the supervisor was closed in it ({error}).\n".encode())
    os._exit(os.EX_IOERR)
