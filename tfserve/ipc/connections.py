"""The two ends of a socket between processes: one on an event loop, one for threads.

A connection owns the replies that it waits for: when it is lost, so are they, and whoever waits is told.
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
from typing import NoReturn, cast

from tfserve.errors import Internal, TFserveError, from_failure
from tfserve.ipc import frames
from tfserve.ipc.messages import Done, Failed, Message

log = logging.getLogger(__name__)

RECEIVE_BYTES = 256 * 1024

Handler = Callable[[Message], Awaitable[Message | None]]


class ConnectionLost(Exception):
    """The process at the other end is gone, so its answer will never come."""


class Connection(asyncio.Protocol):
    """Many questions in flight at once over one socket, each answered when it is ready.

    `handler` answers what the other end asks; an error that it raises is sent back as data. Ask from the event
    loop that the connection lives on.
    """

    def __init__(self, handler: Handler | None = None) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self._handler = handler
        self._replies: dict[int, asyncio.Future[Message]] = {}
        self._ids = itertools.count(1)
        self._reader = frames.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusal: TFserveError | None = None

    @classmethod
    async def open(cls, sock: socket.socket, handler: Handler | None = None) -> Connection:
        """Takes over a connected stream socket."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: cls(handler), sock=sock)
        return connection

    async def ask(self, message: Message) -> Message:
        """Sends a question and returns its answer. Raises what the answer tells, or `ConnectionLost`."""
        request_id = next(self._ids)
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._replies[request_id] = reply
        try:
            self._send(request_id, message)
            answer = await reply
        finally:
            self._replies.pop(request_id, None)
        if isinstance(answer, Failed):
            raise from_failure(answer.failure)
        return answer

    def tell(self, message: Message) -> None:
        """Sends what needs no answer; says nothing when the other end is gone."""
        if not self.lost.done():
            self._send(0, message)

    def refuse_pending(self, refusal: TFserveError) -> None:
        """Answers every question that is still being worked on with this error, and gives the work up."""
        self._refusal = refusal
        for task in list(self._tasks):
            task.cancel()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, but does not inherit from it

    def data_received(self, data: bytes) -> None:
        try:
            for request_id, message in self._reader.feed(data):
                self._received(request_id, message)
        except frames.BrokenFrame:
            log.exception("a process at the other end of a socket speaks another language")
            self.close()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(ConnectionLost())

    # --- inside

    def _send(self, request_id: int, message: Message) -> None:
        if self._transport is None or self.lost.done():
            raise ConnectionLost
        self._transport.write(frames.encode(request_id, message))

    def _received(self, request_id: int, message: Message) -> None:
        if request_id & frames.ANSWER:
            reply = self._replies.get(request_id ^ frames.ANSWER)
            if reply is not None and not reply.done():
                reply.set_result(message)
        elif self._handler is not None:
            task = asyncio.get_running_loop().create_task(self._answer(self._handler, request_id, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, handler: Handler, request_id: int, message: Message) -> None:
        try:
            answer = await handler(message) or Done()
        except TFserveError as error:
            answer = Failed(failure=error.to_failure())
        except asyncio.CancelledError:
            if self._refusal is None:
                raise
            answer = Failed(failure=self._refusal.to_failure())
        except Exception:
            log.exception("while answering %s", type(message).__name__)
            answer = Failed(failure=Internal().to_failure())
        if request_id:
            try:
                self._send(request_id | frames.ANSWER, answer)
            except ConnectionLost:
                log.info("nobody waits for the answer to %s any more", type(message).__name__)


class BlockingConnection:
    """The worker's end: one thread receives, any thread answers.

    A process that can't answer any more ends itself, with the exit code EX_IOERR, since somebody waits for the answer.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._inode = os.fstat(sock.fileno()).st_ino
        self._closed = False
        self._sending = threading.Lock()

    def receive(self) -> Iterator[tuple[int, Message]]:
        """Yields questions as they come, until the other end closes."""
        reader = frames.FrameReader()
        while data := self._receive_some():
            yield from reader.feed(data)

    def answer(self, request_id: int, message: Message) -> None:
        """Answers a question; says nothing when the other end is gone. What can't be a frame becomes `Failed`."""
        try:
            frame = frames.encode(request_id | frames.ANSWER, message)
        except Exception as error:
            log.warning("an answer can't be sent: %s: %s", type(error).__name__, error)
            failed = error if isinstance(error, TFserveError) else Internal()
            frame = frames.encode(request_id | frames.ANSWER, Failed(failure=failed.to_failure()))
        self._send(frame)

    def tell(self, message: Message) -> None:
        self._send(frames.encode(0, message))

    def close(self) -> None:
        """From now on nothing is sent. For a forked child, in which this is somebody else's line."""
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
        """Raises `OSError` when the descriptor has been closed, or is something else by now: scripts close "all"."""
        if os.fstat(self._socket.fileno()).st_ino != self._inode:
            raise OSError("its descriptor is another file now")

    def _receive_some(self) -> bytes:
        try:
            return self._socket.recv(RECEIVE_BYTES)
        except OSError:
            return b""


def _end_process(error: OSError) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, f"This worker ends: its line to the supervisor has been closed in it ({error}).\n".encode())
    os._exit(os.EX_IOERR)
