"""A worker's process on a node, as the head sees it: the same interface as `Child`, over the bridge of its actor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import msgspec

from tfserve.cluster.numbered_stream import NumberedStream
from tfserve.ipc.connections import Connection, Handler
from tfserve.ipc.messages import (
    CONTROL,
    KillWorker,
    Limits,
    LimitWorker,
    Message,
    OpenWorker,
    PipesOpened,
    TerminateWorker,
    WorkerEnded,
    WorkerInput,
    WorkerOutput,
    WorkerStarted,
)
from tfserve.linux import Use
from tfserve.supervisor.cluster.remote_pipes import FIRST_STREAM, RemotePipes
from tfserve.supervisor.processes.child import Exit, Role, deaths, elsewhere
from tfserve.supervisor.processes.limits import Exceeded
from tfserve.supervisor.processes.output import OfferedPipes, Sink
from tfserve.supervisor.processes.worker_process import Drainable

BRIDGE_GRACE_S = 3.0
"""A bridge that lives connects again at once, so after this time its actor or its node is gone."""
KILL_GRACE_S = 5.0
"""A worker that was killed is gone after this time, whether its node says so or not."""


class RemoteChild:
    """`ended` becomes its `Exit`, at the latest when its node is gone."""

    def __init__(self, worker: str, node: str, *, first_request_id: int = 1) -> None:
        self.worker = worker
        self.node = node
        self.node_stops = False
        self.pid = 0
        self.role = Role.SPARE
        self.workspace = ""
        self.exceeded: Exceeded | None = None
        self.find_exceeded: Callable[[], Exceeded | None] | None = None
        self.end_requested = False
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.stream = NumberedStream(self._deliver)
        self.resources: dict[str, float] = {}
        """What was reserved for it, by Ray's names."""
        self.last_use = Use()
        self.cause = ""
        """Why Ray says that its actor is gone."""
        self.node_away = ""
        """The address of its node while that is not connected either; empty otherwise."""
        self._pipes = RemotePipes(self.stream.send)
        self._first_request_id = first_request_id
        self._line: Connection | None = None
        self._sink: Sink = lambda _stream, _data: None
        self._connection: Connection | None = None
        self._killed_because: str | None = None
        self._started_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        elsewhere.add(self)

    # --- the interface of a worker's process

    @property
    def alive(self) -> bool:
        return not self.ended.done()

    def take_role(self, role: Role, workspace: str) -> None:
        self.role, self.workspace = role, workspace
        self._started_at = time.monotonic()

    def read_output(self, deliver: Sink) -> Sequence[Drainable]:
        """The bridge sends output before the frames that the worker writes after it, so nothing has to be drained."""
        self._sink = deliver
        return ()

    def offer_pipes(self) -> AbstractAsyncContextManager[OfferedPipes]:
        return self._pipes.offer(cast("asyncio.Future[object]", self.ended))

    def memory_bytes(self) -> int:
        return self.last_use.memory_bytes if self.alive else 0

    def use(self) -> Use:
        """As its node has reported it last, about a second ago."""
        return self.last_use if self.alive else Use()

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._started_at

    def terminate(self) -> None:
        self.end_requested = True
        if self.alive:
            self.stream.send(TerminateWorker())

    def kill(self, because: str) -> None:
        if not self.alive:
            return
        self.end_requested = True
        if self._killed_because is None:
            self._killed_because = because
            self.stream.send(KillWorker(because=because))
            asyncio.get_running_loop().call_later(KILL_GRACE_S, self.lose, f"node {self.node} did not end it")

    def kill_descendants(self) -> None:
        if self.alive:
            self.stream.send(KillWorker(descendants_only=True))

    # --- the bridge

    def open_line(self, handler: Handler) -> Connection:
        """The connection to the worker itself, through its bridge."""
        self._line = Connection(handler, first_id=self._first_request_id)
        self._line.connection_made(_BridgeTransport(self))
        return self._line

    def limit(self, workspace: str, limits: Limits, *, has_scripts: bool) -> None:
        self.stream.send(LimitWorker(role=self.role, workspace=workspace, limits=limits, has_scripts=has_scripts))

    def attach(self, connection: Connection, opened: OpenWorker) -> None:
        """Continues over a new connection of its bridge."""
        former, self._connection = self._connection, connection
        if former is not None:
            former.abort()
        self._stop_waiting()
        self.pid = opened.pid or self.pid
        connection.lost.add_done_callback(lambda _: self._on_disconnect(connection))
        self.stream.resume(connection, opened.received)

    async def received(self, message: Message) -> None:
        """What its bridge sends."""
        self.stream.take(message)

    def expect(self, within_s: float, otherwise: str) -> None:
        """It is lost unless its bridge connects in time."""
        self._stop_waiting()
        self._timer = asyncio.get_running_loop().call_later(within_s, self.lose, otherwise)

    def lose(self, what: str) -> None:
        """It has ended as far as this head is concerned: `what` is gone, or out of reach."""
        if self.alive:
            because = self._killed_because
            self._end(Exit(None, None, 0, self.age_s, killed_because=because, lost=what))
            if self._connection is not None:
                self._connection.abort()

    def actor_ended(self, cause: str) -> None:
        """Ray says that the actor is gone. What its bridge sent last may still arrive."""
        self.cause = cause
        if self.alive:
            asyncio.get_running_loop().call_later(BRIDGE_GRACE_S, lambda: self.lose(self._actor_gone))

    @property
    def _actor_gone(self) -> str:
        if self.node_away:
            return f"node {self.node_away} is gone"
        return f"its actor on node {self.node} is gone" + (f" ({self.cause})" if self.cause else "")

    def _deliver(self, message: Message) -> None:
        match message:
            case WorkerOutput(stream=stream, data=data) if stream == CONTROL:
                if self._line is not None:
                    self._line.data_received(data)
            case WorkerOutput(stream=stream, data=data) if stream >= FIRST_STREAM:
                self._pipes.printed(stream, data)
            case WorkerOutput(stream=stream, data=data):
                self._sink(stream, data)
            case PipesOpened():
                self._pipes.opened(message)
            case WorkerStarted(pid=pid):
                self.pid = pid
            case WorkerEnded():
                self._worker_ended(message)

    def _worker_ended(self, message: WorkerEnded) -> None:
        self.exceeded = msgspec.convert(message.exceeded, Exceeded) if message.exceeded else None
        self._end(
            Exit(
                code=message.code, signal=message.signal, peak_memory_bytes=message.peak_memory_bytes,
                lived_s=self.age_s, killed_because=self._killed_because or message.killed_because,
                exceeded=self.exceeded,
            )
        )  # fmt: skip

    def _end(self, exit_: Exit) -> None:
        if not self.alive:
            return
        self._stop_waiting()
        elsewhere.discard(self)
        deaths[self.role, self.workspace] += not self.end_requested
        self.ended.set_result(exit_)

    def _on_disconnect(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection = None
            self.stream.pause()
            if self.alive:
                self._timer = asyncio.get_running_loop().call_later(BRIDGE_GRACE_S, lambda: self.lose(self._actor_gone))

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _BridgeTransport(asyncio.Transport):
    """Carries the frames of a connection over the bridge: each write is one frame."""

    def __init__(self, child: RemoteChild) -> None:
        super().__init__()
        self._child = child
        self._is_closing = False

    def write(self, data: Any) -> None:
        if not self._is_closing and self._child.alive:
            self._child.stream.send(WorkerInput(frame=bytes(data)))

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        line = self._child._line
        if not self._is_closing and line is not None:
            self._is_closing = True
            line.connection_lost(None)

    def abort(self) -> None:
        self.close()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ARG002 - it has no socket
        return default


class RemoteLimiter:
    """Sends limits to the node of a worker, which applies them there."""

    def __init__(self, memory_bytes: Callable[[str], int], limits_of: Callable[[str], Limits]) -> None:
        self._memory_bytes = memory_bytes
        self._limits_of = limits_of

    def memory_bytes(self, workspace: str) -> int:
        return self._memory_bytes(workspace)

    def apply(self, child: Any, workspace: str, *, has_scripts: bool) -> None:
        child.limit(workspace, self._limits_of(workspace), has_scripts=has_scripts)
