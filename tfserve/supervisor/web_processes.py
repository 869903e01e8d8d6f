"""The web processes: started with the listening socket of the supervisor, and again when they die.

The batch process is one without a socket.

The supervisor owns the socket, so connections that arrive while no web process runs wait instead of being refused.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tfserve.config import DATABASE_MUST_EXIST, Settings, to_environment
from tfserve.errors import Stopping
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import Message, WebReady
from tfserve.supervisor.processes import malloc_env
from tfserve.supervisor.processes.child import OWNER, Child, Role
from tfserve.supervisor.processes.restarts import Restarts

log = logging.getLogger(__name__)

BACKLOG = 2048
STOP_GRACE_S = 5.0

Handler = Callable[[Message], Awaitable[Any]]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `OSError` with the address in its text."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"can't listen on {host}:{port}: {error.strerror}") from error
    sock.listen(BACKLOG)
    return sock


def hold(host: str, port: int) -> socket.socket:
    """Reserves a port for the web processes, which open it themselves and share it.

    Raises `OSError` with the address in its text if the port is in use.
    """
    listen(host, port).close()  # fails if another process has it, shared or not
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"can't listen on {host}:{port}: {error.strerror}") from error
    return sock


class Service(NamedTuple):
    """What a web process gets from the supervisor: responses, and the state with which each subscription begins."""

    handle: Handler
    subscriptions: Mapping[type[Message], Callable[[Connection], Message]]


class WebProcess:
    """Keeps one web process alive. It may start before the service that it uses: its first messages wait for it."""

    def __init__(
        self,
        settings: Settings,
        owner: str,
        *,
        sockets: Sequence[socket.socket],
        service: asyncio.Future[Service],
        program: str = "tfserve.web.app",
        role: Role = Role.WEB,
        on_ready: Callable[[Connection], None] | None = None,
    ) -> None:
        """`on_ready` is called whenever the process has started, with the connection to it."""
        self.ready = asyncio.get_running_loop().create_future()
        self.launched = asyncio.Event()
        """Set once a process has been started, or could not be."""
        self._settings = settings
        self._owner = owner
        self._sockets = sockets
        self._service = service
        self._program = program
        self._role = role
        self._on_ready = on_ready
        self._restarts = Restarts()
        self._child: Child | None = None
        self._line: Connection | None = None
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Lets it finish the requests that it has, and ends it."""
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        if self._line is not None:
            self._line.refuse_pending(Stopping())
        if self._child is not None and self._child.alive:
            self._child.terminate()
            done, _ = await asyncio.wait([self._child.ended], timeout=STOP_GRACE_S)
            if not done:
                self._child.kill("it did not stop in time")
                await asyncio.shield(self._child.ended)

    def kill(self, because: str) -> None:
        """Ends the process at once. It is started again."""
        if self._child is not None and self._child.alive:
            self._child.kill(because)

    async def _keep(self) -> None:
        while not self._given_up():
            await asyncio.sleep(self._restarts.delay_s(time.monotonic()))
            started_at = time.monotonic()
            try:
                child = await self._start()
                self.launched.set()
                ended = await asyncio.shield(child.ended)
                log.error("the %s process died: %s", self._role, ended.sentence)
            except OSError as error:
                self.launched.set()
                log.error("the %s process can't be started: %s", self._role, error)
            self._restarts.died(now=time.monotonic(), lived_s=time.monotonic() - started_at)
        self.ready.set_exception(RuntimeError(f"the {self._role} process can't be started"))

    def _given_up(self) -> bool:
        """Keep restarting a server that has been up; give up on one that never came up."""
        return not self.ready.done() and self._restarts.given_up

    async def _start(self) -> Child:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._child = self._start_child(theirs.fileno())
            except OSError:
                ours.close()
                raise
        line: list[Connection] = []
        line.append(await Connection.open(ours, lambda message: self._received(line[0], message)))
        self._line = line[0]
        return self._child

    def _start_child(self, line_fd: int) -> Child:
        listening = [sock.fileno() for sock in self._sockets]
        return Child.start(
            [
                sys.executable, "-P", "-m", self._program,
                "--line", str(line_fd), *(["--listen", *map(str, listening)] if listening else []),
            ],
            role=self._role,
            environment={
                **os.environ, **to_environment(self._settings), **malloc_env.environment(), OWNER: self._owner,
                DATABASE_MUST_EXIST: "1",
            },
            keep_fds=[line_fd, *listening],
        )  # fmt: skip

    async def _received(self, line: Connection, message: Message) -> Any:
        service = await asyncio.shield(self._service)
        if (subscribe := service.subscriptions.get(type(message))) is not None:
            return subscribe(line)
        if isinstance(message, WebReady):
            if not self.ready.done():
                self.ready.set_result(None)
            if self._on_ready is not None:
                self._on_ready(line)
            return None
        return await service.handle(message)
