"""`tfserve node`: makes this machine a node of a cluster, with Ray and a web process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvloop

from tfserve import __version__, linux
from tfserve.certificates import files_of, server_context
from tfserve.cluster.heads import Heads
from tfserve.cluster.membership import Membership
from tfserve.cluster.shared_settings import only_shared
from tfserve.config import Settings, load
from tfserve.errors import Forbidden, TFserveError
from tfserve.ipc.connections import Connection, ConnectionLost
from tfserve.ipc.messages import LeaveNode, NodeOpened
from tfserve.node.line import HeadLine
from tfserve.node.membership import membership_of
from tfserve.node.raylet import Raylet
from tfserve.node.relay import Relay
from tfserve.supervisor.lock import DataFolderLock
from tfserve.supervisor.processes.child import owner_of
from tfserve.supervisor.self_signed import with_certificate
from tfserve.supervisor.web_processes import STOP_GRACE_S, WebProcess, hold, listen

log = logging.getLogger(__name__)

UMASK = 0o077
WEB_PROGRAM = "tfserve.node.web"
ANY_ADDRESS = ("0.0.0.0", "::", "")  # noqa: S104 - to recognise it


class Unprotected(Forbidden):
    """The head requires no tokens, and other machines can reach this node at {host}: every client that reaches it \
could run programs. Create a token on the head (tfserve token create), listen on 127.0.0.1 (--host), or start the head \
with TFSERVE_ALLOW_UNAUTHENTICATED=1."""


@dataclass(frozen=True)
class NodeOptions:
    """What the command line says."""

    heads: Heads
    folder: Path
    token: str | None = None
    name: str | None = None
    address: str | None = None
    with_ray: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The settings of the web process that were given."""


def main(options: NodeOptions) -> int:
    """Runs the node until it is stopped. Returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.umask(UMASK)
    os.environ["DJANGO_SETTINGS_MODULE"] = "tfserve.django_settings"
    try:
        lock = DataFolderLock(options.folder)
    except (TFserveError, OSError) as error:
        return _refuse(error)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(options))
    except (TFserveError, OSError) as error:
        return _refuse(error)
    finally:
        lock.release()


async def _run(options: NodeOptions) -> int:
    return await NodeProcess(options).run()


def _refuse(error: TFserveError | OSError) -> int:
    print(f"tfserve: {error}", file=sys.stderr)
    return 1


class NodeProcess:
    """The parts of a node: the line to the head, Ray, and the web processes."""

    def __init__(self, options: NodeOptions) -> None:
        """Raises `OSError` when a port is in use, and `Invalid` for a setting."""
        self._options = options
        settings = with_certificate(self._settings({}))
        if (certificate := files_of(settings)) is not None:
            server_context(certificate)  # unusable files are reported now
        self._certificate = {name: getattr(settings, name) for name in ("tls_cert", "tls_key")}
        self._sockets = listen(settings.host, settings.port, settings.web_processes)
        self._port = int(self._sockets[0].getsockname()[1])
        self._held = [hold(settings.host, settings.grpc_port)] if settings.grpc_port else []
        self._relay = Relay(
            drain_s=settings.predict_timeout_s, on_unprotected=lambda: self._stop(Unprotected(host=settings.host))
        )
        self._drain_s = settings.drain_s
        self._raylet: Raylet | None = None
        self._web: list[WebProcess] = []
        self._stopping: asyncio.Future[TFserveError | None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Returns the exit code. Raises the error with which the head refuses the node."""
        loop = asyncio.get_running_loop()
        for number in linux.stop_signals():
            loop.add_signal_handler(number, self._on_signal)
        joining = loop.create_task(self._membership())
        waits: list[asyncio.Future[Any]] = [joining, self._stopping]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if not joining.done():
            joining.cancel()
            return 0
        return await self._run(joining.result())

    async def _leave(self, line: HeadLine) -> None:
        """Returns when what runs here for the head has ended or moved, or when the time for that is over."""
        await self._relay.leave()
        if line.connection is not None:
            with contextlib.suppress(ConnectionLost, TFserveError):  # a head that is away can't move anything
                await line.connection.ask(LeaveNode(drain_s=self._drain_s))

    async def _membership(self) -> Membership:
        given = self._options
        return await membership_of(
            given.folder, given.heads, token=given.token, name=given.name, address=given.address
        )  # fmt: skip

    async def _run(self, membership: Membership) -> int:
        os.environ.update(membership.environment)
        options = self._options
        if options.with_ray:
            self._raylet = Raylet(name=membership.node, address=membership.address, folder=options.folder)
        line = HeadLine(
            membership.identity, heads=options.heads, name=membership.node, address=membership.address,
            http=self._url(membership.address), handler=self._relay.handle,
            on_opened=lambda opened, connection: self._do(self._opened(membership, opened, connection)),
            on_lost=lambda: self._do(self._relay.disconnected()),
        )  # fmt: skip
        keeper = asyncio.get_running_loop().create_task(line.keep())
        try:
            problem = await self._stopping
            if problem is None:
                await self._leave(line)
        finally:
            keeper.cancel()
            await self._close(line)
        if problem is not None:
            raise problem
        return 0

    async def _opened(self, membership: Membership, opened: NodeOpened, connection: Connection) -> None:
        """The head has accepted the node, for the first time or again."""
        settings = self._settings(opened.settings)
        self._drain_s = settings.drain_s
        await self._relay.connected(connection, opened.head_url, may_be_open=_may_be_open(settings))
        if self._relay.is_unprotected:
            self._stop(Unprotected(host=settings.host))
            return
        if self._raylet is not None:
            self._raylet.connect(opened.ray_address, opened.ray_environment)
        if not self._web:
            await self._start_web(membership, settings)

    async def _start_web(self, membership: Membership, settings: Settings) -> None:
        owner = f"{owner_of(str(self._options.folder))}{os.getpid()}"
        self._web = [
            WebProcess(settings, owner, sockets=[sock], service=self._relay.service, program=WEB_PROGRAM)
            for sock in self._sockets
        ]
        try:
            await asyncio.gather(*(process.ready for process in self._web))
        except RuntimeError as error:
            self._stop(TFserveError(f"{error}; see the log lines above"))
            return
        grpc = f"\n  gRPC   {self._host(membership.address)}:{settings.grpc_port}" if settings.grpc_port else ""
        with contextlib.suppress(OSError):
            print(
                f"TFserve {__version__} node {membership.node} is ready"
                f" (pid {os.getpid()}, head {self._options.heads.addresses[0]})\n"
                f"  APIs   {self._url(membership.address)}{grpc}\nCtrl-C stops it.",
                flush=True,
            )

    async def _close(self, line: HeadLine) -> None:
        for sock in self._sockets:  # new connections are refused, and do not wait for a process that ends
            sock.close()
        await asyncio.gather(*(process.stop(STOP_GRACE_S + self._drain_s) for process in self._web))
        if self._raylet is not None:
            await self._raylet.close()
        if line.connection is not None:
            line.connection.close()
        for sock in self._held:
            sock.close()

    def _settings(self, of_head: Mapping[str, str]) -> Settings:
        """The options of the command line, then the environment of the node, then what the head says."""
        given = {**self._options.settings, "data_dir": str(self._options.folder)}
        settings = load(given, {**only_shared(of_head), **os.environ})
        return replace(settings, port=self._port, **self._certificate) if of_head else settings

    def _host(self, address: str) -> str:
        host = self._settings({}).host
        host = address if host in ANY_ADDRESS else host
        return f"[{host}]" if ":" in host else host

    def _url(self, address: str) -> str:
        return f"{self._settings({}).scheme}://{self._host(address)}:{self._port}"

    def _do(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the node could not follow the head", exc_info=error)

    def _stop(self, problem: TFserveError | None) -> None:
        if not self._stopping.done():
            self._stopping.set_result(problem)

    def _on_signal(self) -> None:
        if self._stopping.done():
            print("tfserve: stopped immediately", file=sys.stderr, flush=True)
            os._exit(1)
        self._stop(None)  # before the output, which may have no reader any more
        with contextlib.suppress(OSError):
            print("tfserve: waiting for running work to end; a second signal stops immediately", flush=True)


def _may_be_open(settings: Settings) -> bool:
    """Whether requests may need no token: only this machine can send them, or the operator allows it."""
    return settings.is_loopback or settings.allow_unauthenticated
