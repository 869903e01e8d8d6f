"""The web processes: started with a listening socket of the supervisor, and again when they die or hang.

The batch process is one without a socket.

The supervisor owns the sockets, so connections that arrive while a web process does not run wait for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tfserve.config import DATABASE_MUST_EXIST, Settings, to_environment
from tfserve.errors import Stopping
from tfserve.ipc.connections import Connection, ConnectionLost
from tfserve.ipc.messages import Message, Ping, WebReady
from tfserve.supervisor.processes import malloc_env
from tfserve.supervisor.processes.child import OWNER, Child, Role, deaths
from tfserve.supervisor.processes.restarts import Restarts

log = logging.getLogger(__name__)

BACKLOG = 2048
STOP_GRACE_S = 5.0

PING_S = 5.0
"""How often a web process is asked whether it runs, and how long it may take to respond."""
PINGS = 4
"""Unanswered ones in a row after which a process is replaced. One may be missed when the whole server was suspended."""

Handler = Callable[[Message], Awaitable[Any]]


def listen(host: str, port: int, processes: int) -> list[socket.socket]:
    """A listening socket for each of several processes. Raises `OSError` with the address in its text.

    The kernel spreads the connections evenly over sockets of their own, but not over processes that share a socket: the
    one that is running takes them all.
    """
    if processes == 1:
        return [_listening(_bound(host, port, socket.SO_REUSEADDR))]
    _require_free(host, port)
    sockets: list[socket.socket] = []
    for _ in range(processes):
        sockets.append(_bound(host, port, socket.SO_REUSEADDR, socket.SO_REUSEPORT))
        port = sockets[0].getsockname()[1]
    return [_listening(sock) for sock in sockets]


def hold(host: str, port: int) -> socket.socket:
    """Reserves a port for the web processes, which open it themselves and share it.

    Raises `OSError` with the address in its text if the port is in use.
    """
    _require_free(host, port)
    return _bound(host, port, socket.SO_REUSEPORT)


def _require_free(host: str, port: int) -> None:
    """Raises `OSError` if another process has the port, even if it would share it."""
    if port:
        _listening(_bound(host, port, socket.SO_REUSEADDR)).close()


def _bound(host: str, port: int, *options: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    for option in options:
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"can't listen on {host}:{port}: {error.strerror}") from error
    return sock


def _listening(sock: socket.socket) -> socket.socket:
    sock.listen(BACKLOG)
    return sock


class SupervisorService(NamedTuple):
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
        members: socket.socket | None = None,
        service: asyncio.Future[SupervisorService],
        program: str = "tfserve.web.app",
        role: Role = Role.WEB,
        on_ready: Callable[[Connection], None] | None = None,
    ) -> None:
        """`on_ready` is called whenever the process has started, with the connection to it.

        `members` is the listening socket for other machines of the cluster.
        """
        self.ready = asyncio.get_running_loop().create_future()
        self.launched = asyncio.Event()
        """Set once a process has been started, or could not be."""
        self._settings = settings
        self._owner = owner
        self._sockets = sockets
        self._members = members
        self._service = service
        self._program = program
        self._role = role
        self._on_ready = on_ready
        self._restarts = Restarts()
        self._child: Child | None = None
        self._line: Connection | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Lets it finish the requests that it has for `grace_s` seconds, and ends it."""
        self._keeper.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        await asyncio.wait([self._keeper])
        if self._line is not None:
            self._line.refuse_pending(Stopping())
        if self._child is not None:
            await self._child.stop(grace_s)

    def kill(self, because: str) -> None:
        """Ends the process at once. It is started again."""
        if self._child is not None and self._child.alive:
            self._child.kill(because)

    async def _watch(self, child: Child, line: Connection) -> None:
        """Kills a process that hangs: the clients that the kernel sends to its socket would wait indefinitely."""
        with contextlib.suppress(ConnectionLost):
            while True:
                await asyncio.sleep(PING_S)
                if not await _responds(line):
                    break
            deaths[child.role, child.workspace] += 1  # the server ends it, but did not want it to end
            child.kill(f"it did not respond for {PING_S * PINGS:g} s")

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
        """Keep restarting a server that has been up; give up on one that never came up.

        Not on the batch process: jobs that were accepted wait for it.
        """
        return self._role != Role.BATCH and not self.ready.done() and self._restarts.given_up

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
        members = [self._members.fileno()] if self._members is not None else []
        return Child.start(
            [
                sys.executable, "-P", "-m", self._program,
                "--line", str(line_fd), *(["--listen", *map(str, listening)] if listening else []),
                *(["--members", *map(str, members)] if members else []),
            ],
            role=self._role,
            environment={
                **os.environ, **to_environment(self._settings), **malloc_env.environment(), OWNER: self._owner,
                DATABASE_MUST_EXIST: "1",
            },
            keep_fds=[line_fd, *listening, *members],
        )  # fmt: skip

    async def _received(self, line: Connection, message: Message) -> Any:
        service = await asyncio.shield(self._service)
        if (subscribe := service.subscriptions.get(type(message))) is not None:
            return subscribe(line)
        if isinstance(message, WebReady):
            if not self.ready.done():
                self.ready.set_result(None)
            if self._child is not None:
                self._watcher = asyncio.get_running_loop().create_task(self._watch(self._child, line))
            if self._on_ready is not None:
                self._on_ready(line)
            return None
        return await service.handle(message)


async def _responds(line: Connection) -> bool:
    """Whether the process at the other end answers one of several pings. Raises `ConnectionLost` when it is gone."""
    for _ in range(PINGS):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PING_S):
                await line.ask(Ping())
            return True
    return False
