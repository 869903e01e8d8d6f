"""The worker of an actor: started with the code of this machine and the settings of the head."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from tfserve.cluster.identity import Identity
from tfserve.cluster.membership import Membership
from tfserve.config import environment_name, load
from tfserve.ipc import frames
from tfserve.ipc.messages import CONTROL, Limits, LimitWorker, StartActor, StartWorker
from tfserve.supervisor.background import BackgroundTasks
from tfserve.supervisor.processes.child import Child, Exit, Role
from tfserve.supervisor.processes.limits import Limiter
from tfserve.supervisor.processes.output import Pipe, Sink
from tfserve.supervisor.processes.workshop import Workshop

EOF_GRACE_S = 0.2
LINE_GRACE_S = 0.5
NOT_INHERITED = ("RAY_", "OMP_NUM_THREADS")
"""What Ray sets for its own workers. With OMP_NUM_THREADS=1, TensorFlow would compute with one thread."""


class LocalWorker:
    """A worker's process and the socket to it. `reported` is set once its end was delivered."""

    def __init__(self, child: Child, read: Sink, ended: Callable[[Exit], None]) -> None:
        self.child = child
        self.reported: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._control: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._splitter = frames.FrameSplitter()
        self._at_end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks = BackgroundTasks()
        self._read = read
        self._write_ends: dict[int, list[int]] = {}
        self._on_ended = ended
        self._pipes = child.read_output(read)
        self._limiter = Limiter(Limits())
        child.ended.add_done_callback(lambda _: self._tasks.start(self._report()))

    @classmethod
    def start(cls, request: StartActor, start: StartWorker, read: Sink, ended: Callable[[Exit], None]) -> LocalWorker:
        """`read` gets its frames and output in order, `ended` how it ended. Raises `OSError`."""
        child, ours = _workshop(request, start.settings).launch(warm=start.warm, light=start.light)
        worker = cls(child, read, ended)
        worker._tasks.start(worker._connect(ours))
        return worker

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def has_reported(self) -> bool:
        return self.reported.done()

    def write(self, frame: bytes) -> None:
        """Sends a frame to the worker."""
        if self._control is not None:
            self._control.write(frame)
        else:
            self._unsent.append(frame)

    def limit(self, message: LimitWorker) -> None:
        self.child.take_role(Role(message.role), message.workspace)
        self._limiter.set(message.workspace, message.limits, Path("/nonexistent"))
        self._limiter.apply(self.child, message.workspace, has_scripts=False)

    def open_pipes(self, first: int) -> list[str]:
        """Two more pipes to read, and the paths by which the worker can open them until `close_pipes`."""
        ends = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        self._pipes = [pipe for pipe in self._pipes if pipe.is_open]
        for stream, (read, _) in enumerate(ends, start=first):
            self._pipes.append(Pipe(os.fdopen(read, "rb", buffering=0), stream, self._read))
        self._write_ends[first] = [write for _, write in ends]
        return [f"/proc/{os.getpid()}/fd/{write}" for _, write in ends]

    def close_pipes(self, first: int) -> None:
        for write in self._write_ends.pop(first, []):
            os.close(write)

    def pause_reading(self) -> None:
        """The head reads too slowly: the worker waits when its pipes are full."""
        for pipe in self._pipes:
            pipe.pause_reading()
        if self._control is not None:
            self._control.pause_reading()

    def resume_reading(self) -> None:
        for pipe in self._pipes:
            pipe.resume_reading()
        if self._control is not None:
            self._control.resume_reading()

    async def end(self) -> None:
        """Ends the process, if it is still there."""
        self.child.kill("its bridge has ended")
        await asyncio.shield(self.child.ended)

    # --- inside

    async def _connect(self, sock: socket.socket) -> None:
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: _Control(self), sock=sock)
        self._control = transport
        for frame in self._unsent:
            self._control.write(frame)
        self._unsent.clear()

    def control_received(self, data: bytes) -> None:
        """What the worker printed before a frame comes before it."""
        for frame in self._splitter.split(data):
            self._drain()
            self._read(CONTROL, frame)

    def control_closed(self) -> None:
        """A worker that continues without its connection is of no use: a script may have closed the socket."""
        if not self._at_end.done():
            self._at_end.set_result(None)
        asyncio.get_running_loop().call_later(LINE_GRACE_S, self.child.kill, "its connection was closed")

    def _drain(self) -> None:
        for pipe in self._pipes:
            pipe.drain()

    async def _report(self) -> None:
        """Its last frames may still be in the socket. It stays open if a process that a script started has it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EOF_GRACE_S):
                await asyncio.shield(self._at_end)
        self._drain()
        self._on_ended(self.child.ended.result())
        self.reported.set_result(None)
        if self._control is not None:
            self._control.close()


class _Control(asyncio.Protocol):
    """The socket to the worker."""

    def __init__(self, worker: LocalWorker) -> None:
        self._worker = worker

    def data_received(self, data: bytes) -> None:
        self._worker.control_received(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._worker.control_closed()


def files_folder(request: StartActor) -> Path:
    """The folder of the node for what its workers read and write."""
    return Path(request.identity).with_name("files")


def _workshop(request: StartActor, settings: Mapping[str, str]) -> Workshop:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    member = Membership(Identity(Path(request.identity)), request.name, request.address)
    folder = str(files_folder(request))
    own = {environment_name("data_dir"): folder, environment_name("roots"): folder}
    return Workshop(
        load(environ={**settings, **own}), owner=f"node:{request.worker}", callers_umask=os.umask(0o077),
        inherited=inherited | member.environment,
    )  # fmt: skip
