"""Where web reaches a model: a Unix socket, an event loop in a thread of its own, and a batch whenever it is free.

What has arrived when the model becomes free is computed together. A short computation runs on the loop itself, since
a change of threads would cost more; a long one in a second thread, so that the next requests are read meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import uvloop

from tfserve.errors import Internal, Overloaded, TFserveError, TooLarge
from tfserve.ipc.frames import BrokenFrame
from tfserve.ipc.messages import ModelOptions
from tfserve.ipc.prediction_frames import PredictionReader, encode
from tfserve.ipc.predictions import Answer, Ask, Drop, Refusal
from tfserve.worker.computation import Computation
from tfserve.worker.preparation import Preparation
from tfserve.worker.waiting import Waiting, WaitingRoom

log = logging.getLogger(__name__)

SHORT_NS = 400_000
"""A batch that takes less is computed on the loop."""

IDLE_S = 5.0
"""After so long without a request, memory that large requests have left behind goes back to the system."""

MAX_PREPARED_BYTES = 64 * 1024 * 1024
BACKLOG = 16


class Listener:
    """Answers the predictions that come over the socket at `address`."""

    def __init__(self, computation: Computation, options: ModelOptions, *, address: str, time_limit_s: float) -> None:
        self._computation = computation
        self._options = options
        self._time_limit_s = time_limit_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(address)
        self._socket.listen(BACKLOG)
        self._thread = threading.Thread(target=self._serve, name="predictions", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._listen())

    async def _listen(self) -> None:
        batches = Batches(self._computation, self._options)
        threading.Thread(target=self._watch, args=(batches,), name="watchdog", daemon=True).start()
        server = await asyncio.get_running_loop().create_unix_server(lambda: Line(batches), sock=self._socket)
        await server.serve_forever()

    def _watch(self, batches: Batches) -> None:
        """Ends the process when a computation does not end: whoever asked has given up, and others wait behind it."""
        limit_ns = int(self._time_limit_s * 1e9)
        while True:
            begun_ns = batches.running_since_ns
            left_ns = limit_ns if begun_ns is None else begun_ns + limit_ns - time.perf_counter_ns()
            if left_ns <= 0:
                told = f"A computation of this model has not ended within {self._time_limit_s:g} s: the worker ends.\n"
                os.write(2, told.encode())
                os._exit(os.EX_SOFTWARE)
            time.sleep(left_ns / 1e9)


class Batches:
    """Takes what waits, batch by batch."""

    def __init__(self, computation: Computation, options: ModelOptions) -> None:
        self._computation = computation
        self._max_rows = max(1, options.max_batch_size)
        self._max_delay_ns = int(options.max_delay_s * 1e9)
        self._waiting = WaitingRoom()
        self._preparation = Preparation(computation, pass_on=self._put_prepared, has_enough=self._has_enough)
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._is_planned = False
        self._patience: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None
        self.running_since_ns: int | None = None
        self._typical_ns = SHORT_NS * 2

    def put(self, line: Line, request_id: int, ask: Ask) -> None:
        if self._computation.prepares(ask):
            self._preparation.put(line, request_id, ask)
            return
        group, rows = self._computation.sort(ask)
        self._waiting.put(Waiting(line, request_id, ask, rows, group, time.perf_counter_ns()))
        self._plan()

    def drop(self, line: Line, request_id: int) -> None:
        self._preparation.drop(line, request_id)
        self._waiting.drop(line, request_id)
        self._preparation.go_on()  # there may be room again, and nothing left that would be computed

    def drop_all(self, line: Line) -> None:
        self._preparation.drop_all(line)
        self._waiting.drop_all(line)
        self._preparation.go_on()

    def _put_prepared(self, request: Waiting) -> None:
        request.group, request.rows = self._computation.sort(request.ask)
        self._waiting.put(request)
        self._plan()

    def _has_enough(self) -> bool:
        """Whether more that is made ready would only take memory: files are small, what is in them is large."""
        return self._waiting.prepared_bytes >= MAX_PREPARED_BYTES

    def _plan(self) -> None:
        """Has the next batch computed, once what is in the sockets has been read."""
        if self._patience is not None:  # what has come may fill the batch, or be more urgent
            self._patience.cancel()
            self._patience, self._is_planned = None, False
        if not self._is_planned and self._waiting:
            self._is_planned = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._is_planned, self._patience = False, None
        group = self._waiting.next_group()
        if group is None:
            return
        if self._max_delay_ns and self._waiting.rows_if_shared(group, self._max_rows) < self._max_rows:
            left_ns = self._waiting.oldest_ns(group) + self._max_delay_ns - time.perf_counter_ns()
            if left_ns > 0:
                self._is_planned = True
                self._patience = self._loop.call_later(left_ns / 1e9, self._next)
                return
        batch = self._waiting.take(group, self._max_rows)
        self._preparation.go_on()
        if self._typical_ns < SHORT_NS:
            self._done(batch, *self._compute(batch))
        else:
            self._is_planned = True
            future = self._loop.run_in_executor(self._thread, self._compute, batch)
            future.add_done_callback(lambda done: self._done_aside(batch, done))

    def _compute(self, batch: list[Waiting]) -> tuple[list[Answer | Refusal], int]:
        begun_ns = self.running_since_ns = time.perf_counter_ns()
        answers = self._computation.run(batch)
        self.running_since_ns = None
        return answers, time.perf_counter_ns() - begun_ns

    def _done_aside(self, batch: list[Waiting], done: asyncio.Future[tuple[list[Answer | Refusal], int]]) -> None:
        self._is_planned = False
        self._done(batch, *done.result())

    def _done(self, batch: list[Waiting], answers: list[Answer | Refusal], took_ns: int) -> None:
        self._typical_ns += (took_ns - self._typical_ns) // 4
        for request, answer in zip(batch, answers, strict=True):
            request.asker.answer(request.id, answer)
        for asker in {request.asker for request in batch}:
            asker.flush()
        self._plan()
        if self._rest is None:
            self._rest = self._loop.call_later(IDLE_S, self._tidy)

    def _tidy(self) -> None:
        """Once when a busy time is over, in a thread, since a request may come meanwhile."""
        self._rest = None
        if self._waiting or time.perf_counter_ns() - self._computation.asked_ns < IDLE_S * 1e9:
            self._rest = self._loop.call_later(IDLE_S, self._tidy)
        else:
            self._loop.run_in_executor(None, self._computation.release_memory)


class Line(asyncio.BufferedProtocol):
    """One web process at the other end."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._reader = PredictionReader()
        #: pieces of frames that go out together
        self._unsent: list[bytes | memoryview] = []
        self._transport: asyncio.Transport | None = None

    def answer(self, request_id: int, answer: Answer | Refusal) -> None:
        try:
            self._unsent += encode(request_id, answer)
        except TooLarge as error:
            self._unsent += encode(request_id, Refusal(error.to_failure()))
        except Exception as error:
            log.exception("an answer could not be written")
            self._unsent += encode(request_id, Refusal(_unreadable(error).to_failure()))

    def flush(self) -> None:
        pieces, self._unsent = self._unsent, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(pieces)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        peer = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        if peer[1] != os.getuid():  # its name is no secret on this machine
            self._transport.abort()

    def get_buffer(self, _: int) -> memoryview:
        return self._reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for request_id, message in self._reader.received(nbytes):
                if isinstance(message, Ask):
                    self._put(request_id, message)
                elif isinstance(message, Drop):
                    self._batches.drop(self, message.id)
        except BrokenFrame:
            log.exception("a web process speaks another language")
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self._batches.drop_all(self)

    def _put(self, request_id: int, ask: Ask) -> None:
        """A request that can't even be sorted is refused; an exception here would cut off all requests of the line."""
        try:
            self._batches.put(self, request_id, ask)
        except Exception as error:
            log.exception("a prediction could not be read")
            self.answer(request_id, Refusal(_unreadable(error).to_failure()))
            self.flush()


def _unreadable(error: Exception) -> TFserveError:
    if isinstance(error, MemoryError):
        return Overloaded("There is not enough memory for this prediction.")
    return Internal(f"The prediction can't be passed on: {type(error).__name__}: {error}"[:500])
