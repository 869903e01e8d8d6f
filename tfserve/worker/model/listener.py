"""Receives predictions from web processes: a Unix socket with an event loop in its own thread.

In a cluster there is also a TCP port, for the members of the cluster only.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import cast

import uvloop

from tfserve.cluster import sockets
from tfserve.cluster.addresses import ReplicaAddress
from tfserve.cluster.membership import Membership
from tfserve.errors import Internal, Overloaded, TFserveError, TooLarge
from tfserve.ipc.frames import BrokenFrame
from tfserve.ipc.messages import ModelOptions
from tfserve.ipc.prediction_frames import PredictionReader, encode
from tfserve.ipc.predictions import ComputeRequest, ComputeResult, Drop, Refusal
from tfserve.runtimes.error_summary import named_cause
from tfserve.worker.model.batches import Batches
from tfserve.worker.model.computation import Computation
from tfserve.worker.model.concurrency import Setting

log = logging.getLogger(__name__)

BACKLOG = 16


class Listener:
    """Answers the predictions that come over the Unix socket `name`, and over a port where there is a cluster."""

    def __init__(
        self, computation: Computation, options: ModelOptions, *, name: str, time_limit_s: float,
        is_on_cpu: bool = True, notify: Callable[[Setting], None] = lambda _: None,
        membership: Membership | None = None,
    ) -> None:  # fmt: skip
        """Raises `OSError` when the address of the member is not one of this machine."""
        self._new_batches = partial(
            Batches, computation, options, time_limit_s=time_limit_s, is_on_cpu=is_on_cpu, notify=notify
        )
        self._time_limit_s = time_limit_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(name)
        self._socket.listen(BACKLOG)
        self._membership = membership
        self._port = sockets.listen(membership.address) if membership is not None else None
        #: where web connects to
        self.address = str(self._address(name))
        self._thread = threading.Thread(target=self._serve, name="predictions", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._listen())

    def _address(self, name: str) -> ReplicaAddress:
        if self._membership is None or self._port is None:
            return ReplicaAddress(name)
        return ReplicaAddress(name, self._membership.node, self._membership.address, self._port.getsockname()[1])

    async def _listen(self) -> None:
        batches = self._new_batches()
        threading.Thread(target=self._watch, args=(batches,), name="watchdog", daemon=True).start()
        loop = asyncio.get_running_loop()
        if self._port is not None and self._membership is not None:
            context = self._membership.identity.server_context()
            await loop.create_server(lambda: WebLine(batches), sock=self._port, ssl=context)
        server = await loop.create_unix_server(lambda: WebLine(batches), sock=self._socket)
        await server.serve_forever()

    def _watch(self, batches: Batches) -> None:
        """Ends the process when a computation hangs: its caller has timed out, and other requests wait for it."""
        limit_ns = int(self._time_limit_s * 1e9)
        while True:
            started_ns = batches.running_since_ns
            left_ns = limit_ns if started_ns is None else started_ns + limit_ns - time.perf_counter_ns()
            if left_ns <= 0:
                message = (
                    f"A prediction of this model did not finish within {self._time_limit_s:g} s. The worker exits.\n"
                )
                os.write(2, message.encode())
                os._exit(os.EX_SOFTWARE)
            time.sleep(left_ns / 1e9)


class WebLine(asyncio.BufferedProtocol):
    """The connection of one web process."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._reader = PredictionReader()
        #: pieces of frames that go out together
        self._unsent: list[bytes | memoryview] = []
        self._transport: asyncio.Transport | None = None

    def answer(self, request_id: int, answer: ComputeResult | Refusal) -> None:
        try:
            self._unsent += encode(request_id, answer)
        except TooLarge as error:
            self._unsent += encode(request_id, Refusal(error.to_failure()))
        except Exception as error:
            log.exception("a response could not be written")
            self._unsent += encode(request_id, Refusal(_unreadable(error).to_failure()))

    def flush(self) -> None:
        pieces, self._unsent = self._unsent, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(pieces)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            return  # its certificate has been checked
        peer = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        if peer[1] != os.getuid():  # other users of this machine can see the socket's name
            self._transport.abort()

    def get_buffer(self, _: int) -> memoryview:
        return self._reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for request_id, message in self._reader.received(nbytes):
                if isinstance(message, ComputeRequest):
                    self._put(request_id, message)
                elif isinstance(message, Drop):
                    self._batches.drop(self, message.id)
        except BrokenFrame:
            log.exception("a web process uses another protocol version")
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self._batches.drop_all(self)

    def _put(self, request_id: int, ask: ComputeRequest) -> None:
        """Rejects a request that can't be queued; an exception here would break the connection for all its requests."""
        try:
            self._batches.put(self, request_id, ask)
        except Exception as error:
            log.exception("a prediction could not be read")
            self.answer(request_id, Refusal(_unreadable(error).to_failure()))
            self.flush()


def _unreadable(error: Exception) -> TFserveError:
    if isinstance(error, MemoryError):
        return Overloaded("Not enough memory for this prediction.")
    return Internal(f"The prediction can't be processed: {named_cause(error)}")
