"""A worker as the supervisor sees it: a process, a connection to it, and its output."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tfserve.ipc.connections import Connection, ConnectionLost, Handler
from tfserve.ipc.messages import (
    BecomeHost,
    BecomeModel,
    BecomeScripts,
    Concurrency,
    ConcurrencyChosen,
    Convert,
    ExamineProject,
    IdentifyModel,
    Message,
    Progress,
    Request,
    SamplesSeen,
    Stop,
    Train,
    WarmUpStep,
    WorkerReady,
)
from tfserve.supervisor.processes.child import Exit, Role
from tfserve.supervisor.processes.last_lines import LastLines
from tfserve.supervisor.processes.output import JobOutput
from tfserve.supervisor.processes.worker_process import WorkerLimiter, WorkerProcess

log = logging.getLogger(__name__)

R = TypeVar("R")

Send = Callable[[Request[Any]], Awaitable[Any]]
Carry = Callable[[Request[Any], Send], Awaitable[Any]]

STOP_GRACE_S = 5.0
EOF_GRACE_S = 0.2
LINE_GRACE_S = 0.5

#: the messages that give a worker its role
ROLES: dict[type, Role] = {
    BecomeScripts: Role.SCRIPT,
    BecomeHost: Role.HOST,
    BecomeModel: Role.MODEL,
    ExamineProject: Role.TRAIN,
    Train: Role.TRAIN,
    IdentifyModel: Role.CONVERT,
    Convert: Role.CONVERT,
}


class WorkerDied(Exception):
    """The worker ended before it replied."""

    def __init__(self, exit_: Exit, last_lines: str, *, shows_fault: bool = False) -> None:
        """`shows_fault`: the output of the worker itself, not of a job, contains a fault dump."""
        super().__init__(exit_.sentence)
        self.exit = exit_
        self.last_lines = last_lines
        self.shows_fault = shows_fault


class Worker:
    """One worker process. `ready` is set once it can be given a role."""

    def __init__(self, child: WorkerProcess) -> None:
        self.child = child
        self.carry: Carry | None = None
        """Sends a request to a worker on a node, with the files that it names, and brings back what it has written."""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.limiter: WorkerLimiter | None = None
        self.output: JobOutput | None = None
        self.on_progress: Callable[[Progress], None] | None = None
        #: what its model took when it was loaded, for a process on another machine
        self.loaded_bytes = 0
        #: the current warm-up step of a model worker, or the last one
        self.warm_up_step: WarmUpStep | None = None
        #: how many different requests a model worker has sampled, and the callback for more
        self.samples_seen = 0
        self.on_samples: Callable[[], None] | None = None
        #: how a model worker computes at load, and the callback for a change
        self.concurrency: Concurrency | None = None
        self.on_concurrency: Callable[[], object] | None = None
        #: None until it is open
        self._line: Connection | None = None
        self._pipes = child.read_output(self._printed)
        self._last_lines = {1: LastLines(), 2: LastLines()}
        child.ended.add_done_callback(self._on_end)

    @classmethod
    async def open(cls, child: WorkerProcess, sock: socket.socket) -> Worker:
        worker = cls(child)
        worker._line = await Connection.open(sock, worker._received)
        return worker

    @classmethod
    def over(cls, child: WorkerProcess, open_line: Callable[[Handler], Connection]) -> Worker:
        """A worker whose connection `open_line` makes, from the handler of what the worker sends."""
        worker = cls(child)
        worker._line = open_line(worker._received)
        return worker

    @property
    def node(self) -> str:
        """The name of the machine that it runs on."""
        return self.child.node

    @property
    def node_stops(self) -> bool:
        """Whether that machine is about to stop: this worker gets nothing more to do."""
        return self.child.node_stops

    @property
    def alive(self) -> bool:
        return self.child.alive

    async def ask(self, request: Request[R]) -> R:
        """The worker's response. Raises the error that it replies with, or `WorkerDied`."""
        if (role := ROLES.get(type(request))) is not None:
            self._take_role(role, getattr(request, "workspace", ""))
        if isinstance(request, BecomeModel) and self.limiter is not None:
            request.memory_limit_bytes = self.limiter.memory_bytes(request.workspace)
        try:
            if self.carry is None:
                return await self._open_line.ask(request)
            response: R = await self.carry(request, self._open_line.ask)
            return response
        except ConnectionLost:
            # A connection closes a moment before its process ends. A process that continues without one is of no use:
            # a script may have closed the socket.
            done, _ = await asyncio.wait([self.child.ended], timeout=LINE_GRACE_S)
            if not done:
                self.child.kill("its connection was closed")
            exit_ = await asyncio.shield(self.child.ended)
            self.drain()
            raise WorkerDied(exit_, self._last_output(), shows_fault=self._last_lines[2].has_fault) from None

    def notify(self, message: Message) -> None:
        self._open_line.notify(message)

    def drain(self) -> None:
        """Reads what the worker has printed so far."""
        for pipe in self._pipes:
            pipe.drain()

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Returns when the process has ended; after `grace_s` it is killed."""
        self.child.end_requested = True
        self.notify(Stop())
        done, _ = await asyncio.wait([self.child.ended], timeout=grace_s)
        if not done:
            self.kill("it did not stop in time")
            await asyncio.shield(self.child.ended)

    def kill(self, because: str) -> None:
        self.child.kill(because)

    def memory_bytes(self) -> int:
        """The memory that the end of this process would release: pages that it does not share with others."""
        return self.child.memory_bytes() or self.loaded_bytes * self.alive

    # --- inside

    def _take_role(self, role: Role, workspace: str) -> None:
        had_role = self.child.role != Role.SPARE
        self.child.take_role(role, workspace)
        if self.limiter is not None and not had_role:
            self.limiter.apply(self.child, workspace, has_scripts=role == Role.SCRIPT)

    async def _received(self, message: Message) -> Message | None:
        if isinstance(message, WorkerReady):
            if not self.ready.done():
                self.ready.set_result(None)
        elif isinstance(message, Progress) and self.on_progress is not None:
            self.on_progress(message)
        elif isinstance(message, WarmUpStep):
            self.warm_up_step = message
        elif isinstance(message, SamplesSeen):
            self.samples_seen = message.count
            if self.on_samples is not None:
                self.on_samples()
        elif isinstance(message, ConcurrencyChosen):
            self.concurrency = message.concurrency
            if self.on_concurrency is not None:
                self.on_concurrency()
        return None

    def _printed(self, stream: int, data: bytes) -> None:
        if self.output is not None:
            self.output.write(stream, data)
        else:
            self._last_lines[stream].add(data)
            log.debug("worker %s: %s", self.child.pid, data.decode(errors="replace").rstrip())

    def _last_output(self) -> str:
        """The last lines of the job, or else of the process itself."""
        lines = self.output.last_lines if self.output is not None else ""
        return lines or self._last_lines[2].text() or self._last_lines[1].text()

    @property
    def _open_line(self) -> Connection:
        assert self._line is not None  # `open` returns the worker only then
        return self._line

    def _on_end(self, ended: asyncio.Future[Exit]) -> None:
        self.drain()
        if not self.ready.done():
            self.ready.set_exception(WorkerDied(ended.result(), self._last_output()))
            self.ready.exception()  # marks it as retrieved, in case no task waits
        # Its last responses may still be in the socket. The connection closes after them, unless a process that a
        # script has started holds the other end.
        if self._line is not None:
            asyncio.get_running_loop().call_later(EOF_GRACE_S, self._line.close)
