"""A line to one model worker: many predictions in flight over one socket.

A Unix socket on the same machine; in a cluster, TCP with TLS to other machines.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from functools import partial
from typing import cast

from tfserve.cluster import sockets
from tfserve.cluster.addresses import ReplicaAddress
from tfserve.cluster.membership import Membership
from tfserve.ipc.connections import ConnectionLost
from tfserve.ipc.frames import BrokenFrame
from tfserve.ipc.prediction_frames import PredictionReader, encode
from tfserve.ipc.predictions import ComputeRequest, ComputeResult, Drop, Refusal

log = logging.getLogger(__name__)

PIECES = 8
"""The number of bytes that are written without waiting for more."""


class ModelConnection(asyncio.BufferedProtocol):
    """The web process's end. `load` counts what is in flight, `is_near` says whether the worker is on this machine."""

    def __init__(self, *, is_near: bool = True) -> None:
        self.is_near = is_near
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._replies: dict[int, asyncio.Future[ComputeResult | Refusal]] = {}
        self._ids = itertools.count(1)
        self._reader = PredictionReader()
        #: pieces of frames that go out together
        self._unsent: list[bytes | memoryview] = []
        self._transport: asyncio.Transport | None = None
        self._drained: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, address: str, membership: Membership | None = None) -> ModelConnection:
        """Connects to the replica at `address`, see `tfserve.cluster.addresses`. Raises `OSError`."""
        replica = ReplicaAddress.parse(address)
        if replica.is_near(membership.node if membership is not None else None):
            return await cls._open_near(replica.unix)
        if membership is None:
            raise OSError(f"a replica on node {replica.node!r} can only be reached by members of its cluster")
        return await sockets.connect(replica.host, replica.port, membership, partial(cls, is_near=False))

    @classmethod
    async def _open_near(cls, name: str) -> ModelConnection:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(name)  # to a socket of this machine: at once, or not at all
            _, line = await asyncio.get_running_loop().create_connection(cls, sock=sock)
        except OSError:
            sock.close()
            raise
        return line

    @property
    def load(self) -> int:
        return len(self._replies)

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self.lost.done()

    def ask(self, question: ComputeRequest) -> tuple[int, asyncio.Future[ComputeResult | Refusal]]:
        """Sends a request. Returns its id and the future of its response. Raises `ConnectionLost`, `TooLarge`."""
        if self._transport is None or self.lost.done():
            raise ConnectionLost
        request_id = next(self._ids)
        self._send(encode(request_id, question))
        reply: asyncio.Future[ComputeResult | Refusal] = self._loop.create_future()
        self._replies[request_id] = reply
        return request_id, reply

    def drop(self, request_id: int) -> None:
        """Cancels a request. Does nothing if it is not in flight."""
        if self._replies.pop(request_id, None) is not None and self._transport is not None and not self.lost.done():
            self._send(encode(request_id, Drop(request_id)))
            self._notify_drained()

    async def drained(self) -> None:
        """Returns when nothing is in flight."""
        if self._replies:
            if self._drained is None or self._drained.done():
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)

    def close(self) -> None:
        if self._transport is not None:
            self._write()
            self._transport.close()

    def abort(self) -> None:
        """Breaks the connection: what is in flight is lost."""
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, _: int) -> memoryview:
        return self._reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for request_id, message in self._reader.received(nbytes):
                reply = self._replies.pop(request_id, None)
                if reply is not None and not reply.done():
                    reply.set_result(message)  # type: ignore[arg-type]  # a worker sends nothing else
            if self._drained is not None:
                self._notify_drained()
        except BrokenFrame:
            log.exception("a model worker violated the protocol")
            self.close()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        replies, self._replies = self._replies, {}
        for reply in replies.values():
            if not reply.done():
                reply.set_exception(ConnectionLost())
        self._notify_drained()

    def _send(self, pieces: list[bytes | memoryview]) -> None:
        """Several questions go out in one write, if they are asked in the same turn of the loop.

        A few at a time, so that the model's process begins with the first while the others are being made.
        """
        if not self._unsent:
            self._loop.call_soon(self._write)
        self._unsent += pieces
        if len(self._unsent) >= PIECES:
            self._write()

    def _write(self) -> None:
        pieces, self._unsent = self._unsent, []
        if pieces and self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(pieces)

    def _notify_drained(self) -> None:
        if not self._replies and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
