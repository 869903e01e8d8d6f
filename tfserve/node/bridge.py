"""The bridge of one worker: its frames, its output and its end go to the head, over one connection after another.

The worker ends with its bridge. While the head is away it continues to serve, for a limited time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tfserve.cluster.connecting import CannotConnect, connect
from tfserve.cluster.heads import Heads
from tfserve.cluster.identity import Identity
from tfserve.cluster.numbered_stream import NumberedStream
from tfserve.config import load
from tfserve.errors import Kind, TFserveError
from tfserve.ipc.connections import Connection, ConnectionLost, Handler
from tfserve.ipc.messages import (
    CONTROL,
    ClosePipes,
    KillWorker,
    LimitWorker,
    Message,
    OpenFiles,
    OpenPipes,
    OpenWorker,
    PipesOpened,
    StartActor,
    TerminateWorker,
    WorkerEnded,
    WorkerInput,
    WorkerOpened,
    WorkerOutput,
    WorkerStarted,
)
from tfserve.node.files import NodeFiles
from tfserve.node.local_worker import LocalWorker, files_folder
from tfserve.node.serving import ServingRecord
from tfserve.supervisor.processes.child import Exit

log = logging.getLogger(__name__)

AGAIN_S = 0.25
GRACE_S = 30.0
"""How long a worker waits for a head before the head has said how long."""
TEMPORARY = (Kind.UNAVAILABLE, Kind.TIMED_OUT, Kind.OVERLOADED, Kind.INTERNAL)


class Bridge:
    """Runs the worker of one actor."""

    def __init__(self, request: StartActor) -> None:
        self._request = request
        self._identity = Identity(Path(request.identity))
        self._heads = Heads(request.heads)
        self._stream = NumberedStream(self._deliver)
        self._stream.on_room = self._resume_reading
        self._worker: LocalWorker | None = None
        self._epoch = 0
        self._connection: Connection | None = None
        self._grace_s = GRACE_S
        self._last_words: WorkerEnded | None = None
        self._serving = ServingRecord()
        self._files: NodeFiles | None = None
        self._serving_files: asyncio.Task[None] | None = None

    async def run(self) -> str:
        """Returns why it ended."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._grace_s
        try:
            while True:
                try:
                    connection = await self._heads.first(self._open, discard=Connection.abort)
                except (CannotConnect, ConnectionLost) as error:
                    problem = str(error) or "the head closed the connection"
                    if loop.time() > until or self._has_ended:
                        return f"the head was away for {self._grace_s:g} s: {problem}"
                    await asyncio.sleep(AGAIN_S)
                    continue
                except TFserveError as error:
                    return f"the head has refused it: {error.message}"
                await self._until_lost(connection)
                if self._has_ended and not self._stream.is_waiting:
                    return "the worker has ended"
                until = loop.time() + self._grace_s
        finally:
            if self._worker is not None:
                await self._worker.end()
            await self._close_files()

    @property
    def _has_ended(self) -> bool:
        return self._worker is not None and self._worker.has_reported

    async def _open(self, head: str) -> Connection:
        """Raises `CannotConnect` or `ConnectionLost` while the head is away, and the error of a head that refuses.

        What the head sends next may arrive at once, so the stream continues here already.
        """
        connection = await connect(head, self._identity, self._received)
        try:
            opened = await connection.ask(
                OpenWorker(
                    worker=self._request.worker, token=self._request.token, epoch=self._epoch, node=self._request.name,
                    received=self._stream.received, pid=self._worker.pid if self._worker is not None else 0,
                    model=self._serving.model, resources=self._request.resources,
                )
            )  # fmt: skip
        except TFserveError as error:
            connection.abort()
            raise (ConnectionLost(str(error)) if error.kind in TEMPORARY else error) from None
        except BaseException:
            connection.abort()
            raise
        if opened.epoch < self._epoch:
            connection.abort()
            raise ConnectionLost(f"the head has been replaced (epoch {opened.epoch}, {self._epoch} has been seen)")
        if self._connection is not None and not self._connection.lost.done():
            connection.abort()
            raise ConnectionLost("another head was faster")
        self._connection = connection
        self._continue(connection, opened)
        return connection

    def _continue(self, connection: Connection, opened: WorkerOpened) -> None:
        self._epoch = opened.epoch
        if opened.adopted:
            self._stream.restart()
            if self._last_words is not None:  # it has ended since the former head was there
                self._stream.send(self._last_words)
        self._stream.resume(connection, opened.received)
        if opened.start is not None and self._worker is None:
            settings = opened.start.settings
            self._grace_s = float(settings.get("TFSERVE_HEAD_GRACE_S", GRACE_S))
            self._serve_files(settings)
            self._worker = LocalWorker.start(self._request, opened.start, self._read, self._ended)
            self._stream.send(WorkerStarted(pid=self._worker.pid))

    def _serve_files(self, settings: Mapping[str, str]) -> None:
        limit_bytes = load(environ=settings).node_cache_bytes
        self._files = NodeFiles(files_folder(self._request), limit_bytes, self._request.name)
        self._serving_files = asyncio.get_running_loop().create_task(self._files.serve(self._open_files))

    async def _open_files(self, handler: Handler) -> Connection:
        connection = await connect(self._heads.addresses[0], self._identity, handler)
        try:
            await connection.ask(OpenFiles(worker=self._request.worker, token=self._request.token))
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _close_files(self) -> None:
        if self._files is not None and self._serving_files is not None:
            self._serving_files.cancel()
            await asyncio.wait([self._serving_files])
            await self._files.close()

    async def _until_lost(self, connection: Connection) -> None:
        """Returns when the connection is lost, or everything is said."""
        while not connection.lost.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S if self._has_ended else None):
                    await asyncio.wait([connection.lost, *self._ending], return_when=asyncio.FIRST_COMPLETED)
            if self._has_ended and not self._stream.is_waiting:
                break
        self._stream.pause()
        connection.close()

    @property
    def _ending(self) -> list[asyncio.Future[None]]:
        return [self._worker.reported] if self._worker is not None and not self._worker.has_reported else []

    # --- from the head

    async def _received(self, message: Message) -> None:
        self._stream.take(message)

    def _deliver(self, message: Message) -> None:
        worker = self._worker
        if worker is None:
            return
        match message:
            case WorkerInput(frame=frame):
                self._serving.note_request(frame)
                worker.write(frame)
            case KillWorker(because=because, descendants_only=spares_it):
                worker.child.kill_descendants() if spares_it else worker.child.kill(because)
            case OpenPipes(first=first):
                self._stream.send(PipesOpened(first=first, paths=worker.open_pipes(first)))
            case ClosePipes(first=first):
                worker.close_pipes(first)
            case TerminateWorker():
                worker.child.terminate()
            case LimitWorker():
                worker.limit(message)

    # --- from the worker

    def _read(self, stream: int, data: bytes) -> None:
        if stream == CONTROL:
            self._serving.note_response(data)
        self._stream.send(WorkerOutput(stream=stream, data=data))
        if not self._stream.has_room and self._worker is not None:
            self._worker.pause_reading()

    def _resume_reading(self) -> None:
        if self._worker is not None:
            self._worker.resume_reading()

    def _ended(self, exit_: Exit) -> None:
        self._last_words = WorkerEnded(
            code=exit_.code, signal=exit_.signal, peak_memory_bytes=exit_.peak_memory_bytes,
            killed_because=exit_.killed_because,
            exceeded=msgspec.to_builtins(exit_.exceeded) if exit_.exceeded is not None else None,
        )  # fmt: skip
        self._stream.send(self._last_words)
