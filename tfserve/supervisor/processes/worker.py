"""A worker as the supervisor sees it: a process, a connection to it, and its output."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import psutil

from tfserve.config import Settings, to_environment
from tfserve.errors import Unavailable
from tfserve.ipc.connections import Connection, ConnectionLost
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
from tfserve.supervisor.events import Signal
from tfserve.supervisor.processes import malloc_env
from tfserve.supervisor.processes.child import OWNER, Child, Exit, Role
from tfserve.supervisor.processes.last_lines import LastLines
from tfserve.supervisor.processes.limits import Limiter
from tfserve.supervisor.processes.output import JobOutput, Pipe
from tfserve.supervisor.processes.restarts import Restarts

log = logging.getLogger(__name__)

R = TypeVar("R")

STOP_GRACE_S = 5.0
EOF_GRACE_S = 0.2
LINE_GRACE_S = 0.5
PRIVATE_SETTINGS = ("TFSERVE_DATABASE_URL", "TFSERVE_TOKEN")

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


@dataclass(frozen=True)
class Workshop:
    """Starts the workers of this server."""

    settings: Settings
    owner: str
    #: the umask that the server was started with, for workers that write to paths from requests
    callers_umask: int
    #: the arguments with which Python runs a worker
    program: Sequence[str] = ("-m", "tfserve.worker")
    limiter: Limiter | None = None

    def environment(self) -> dict[str, str]:
        """The environment of a worker, without the server's secrets because a worker runs the code of callers."""
        return {
            **{name: value for name, value in os.environ.items() if name not in PRIVATE_SETTINGS},
            **{k: v for k, v in to_environment(self.settings).items() if k not in PRIVATE_SETTINGS},
            **malloc_env.environment(),
            # Without it, TensorFlow would take a whole GPU, and a second process would find none of its memory.
            "TF_FORCE_GPU_ALLOW_GROWTH": os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH", "true"),
            OWNER: self.owner,
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8:backslashreplace",
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
        }

    async def start(self, *, warm: bool = False, light: str = "") -> Worker:
        """A new worker that is ready for a role; `warm` loads TensorFlow first, `light` another runtime.

        Raises `WorkerDied`, or `OSError` if no process can be started.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            command = [
                sys.executable, "-P", "-X", "faulthandler", *self.program,
                "--fd", str(theirs.fileno()), "--callers-umask", f"{self.callers_umask:o}",
            ]  # fmt: skip
            try:
                child = Child.start(
                    command + ["--warm"] * warm + (["--light", light] if light else []),
                    role=Role.SPARE,
                    environment=self.environment(),
                    keep_fds=[theirs.fileno()],
                    output=subprocess.PIPE,
                )
            except OSError:
                ours.close()
                raise
        try:
            worker = await Worker.open(child, ours)
            worker.limiter = self.limiter
        except BaseException:
            child.kill("it is not needed any more")
            raise
        try:
            await asyncio.shield(worker.ready)
        except BaseException:
            worker.kill("it is not needed any more")
            raise
        return worker


class Worker:
    """One worker process. `ready` is set once it can be given a role."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.limiter: Limiter | None = None
        self.output: JobOutput | None = None
        self.on_progress: Callable[[Progress], None] | None = None
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
        assert child.stdout is not None
        assert child.stderr is not None
        self._pipes = [Pipe(child.stdout, 1, self._printed), Pipe(child.stderr, 2, self._printed)]
        self._last_lines = {1: LastLines(), 2: LastLines()}
        child.ended.add_done_callback(self._on_end)

    @classmethod
    async def open(cls, child: Child, sock: socket.socket) -> Worker:
        worker = cls(child)
        worker._line = await Connection.open(sock, worker._received)
        return worker

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
            return await self._open_line.ask(request)
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
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(self.child.pid).memory_full_info().uss)
        return 0

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


class _Kept:
    """Keeps one worker ready for a role."""

    def __init__(self, *, is_kept: bool, changed: Signal) -> None:
        self.is_kept = is_kept
        self.worker: Worker | None = None
        self.filling: asyncio.Task[None] | None = None
        self._changed = changed
        self._restarts = Restarts()

    def fill(self, start: Callable[[], Awaitable[Worker]]) -> None:
        """Starts a worker, unless there is one."""
        if self.is_kept and self.filling is None and self.worker is None:
            self.filling = asyncio.get_running_loop().create_task(self._fill(start))

    def take(self) -> Worker | None:
        worker, self.worker = self.worker, None
        return worker if worker is not None and worker.alive else None

    async def close(self) -> None:
        self.is_kept = False
        if self.filling is not None:
            self.filling.cancel()
            await asyncio.wait([self.filling])
        if self.worker is not None:
            self.worker.kill("the server is stopping")
            await asyncio.shield(self.worker.child.ended)

    async def _fill(self, start: Callable[[], Awaitable[Worker]]) -> None:
        try:
            await asyncio.sleep(self._restarts.delay_s(time.monotonic()))
            worker = await start()
        except (WorkerDied, OSError) as error:
            log.warning("could not start a spare worker: %s", error)
        else:
            self.worker = worker
            self._changed.fire()
            worker.child.ended.add_done_callback(lambda ended: self._on_end(worker, ended.result(), start))
        finally:
            self.filling = None

    def _on_end(self, worker: Worker, exit_: Exit, start: Callable[[], Awaitable[Worker]]) -> None:
        if self.worker is worker:
            self.worker = None
            self._restarts.died(now=time.monotonic(), lived_s=exit_.lived_s)
            self.fill(start)


class Spare:
    """Keeps one worker with TensorFlow loaded, so that a role starts in milliseconds.

    As soon as a model is served by another runtime, a light one is kept too: with that runtime and without TensorFlow.
    """

    def __init__(self, workshop: Workshop, *, is_kept: bool, changed: Signal) -> None:
        self._workshop = workshop
        self._warm = _Kept(is_kept=is_kept, changed=changed)
        self._light = _Kept(is_kept=is_kept, changed=changed)
        #: the runtime of the light one
        self._runtime = ""

    @property
    def worker(self) -> Worker | None:
        return self._warm.worker

    @property
    def light_worker(self) -> Worker | None:
        return self._light.worker

    def fill(self) -> None:
        """Starts a spare, unless one exists."""
        self._warm.fill(partial(self._workshop.start, warm=True))
        if self._runtime:
            self._light.fill(partial(self._workshop.start, light=self._runtime))

    async def start_cold(self) -> Worker:
        """A new worker without TensorFlow, which leaves the spare for others. Raises `WorkerDied`, `Unavailable`."""
        return await self._start()

    async def take_light(self, runtime: str) -> Worker:
        """A worker with a runtime that is not TensorFlow. Call `fill` when it has loaded its model. Raises the same."""
        worker, known, self._runtime = self._light.take(), self._runtime, runtime
        if worker is not None and known != runtime:
            worker.kill("another runtime is needed")
            worker = None
        return worker or await self._start(light=runtime)

    async def take(self, *, needs_tensorflow: bool, refills: bool = True) -> Worker:
        """A worker without a role: the spare if it is ready or starting soon enough, otherwise a new one.

        Unless it `refills`, call `fill` when the role has begun: the next spare takes a processor for seconds. Raises
        `WorkerDied`, `Unavailable`.
        """
        if self._warm.worker is None and needs_tensorflow and self._warm.filling is not None:
            await asyncio.wait([self._warm.filling])  # it will be ready before a new one
        worker = self._warm.take() or await self._start(warm=needs_tensorflow)
        if refills:
            self.fill()
        return worker

    async def close(self) -> None:
        await self._warm.close()
        await self._light.close()

    async def _start(self, *, warm: bool = False, light: str = "") -> Worker:
        try:
            return await self._workshop.start(warm=warm, light=light)
        except OSError as error:
            raise Unavailable(f"Cannot start another process on this machine: {error.strerror}.") from error
