"""The supervisor: lock the data folder, restore workspaces and models, serve, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import resource
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
import uvloop

from tfserve import __version__, linux
from tfserve.backups import refuse_interrupted_restore
from tfserve.certificates import files_of, server_context
from tfserve.config import Settings, to_environment
from tfserve.db import folder_database
from tfserve.errors import Forbidden, Overloaded, TFserveError, Unsupported
from tfserve.ipc.messages import GetAccessRules, GetModels
from tfserve.setting_sources import with_sources
from tfserve.supervisor.lock import DataFolderLock
from tfserve.supervisor.private_files import UMASK, make_private
from tfserve.supervisor.processes.child import OWNER, Child, Exit, Role, kill_leftovers, owner_of
from tfserve.supervisor.self_signed import fingerprint, with_certificate
from tfserve.supervisor.standby import wait_until_free
from tfserve.supervisor.web_processes import SupervisorService, WebProcess, hold, listen

if TYPE_CHECKING:
    from tfserve.cluster.membership import Membership
    from tfserve.db.database import Database
    from tfserve.supervisor.jobs.journal import Journal
    from tfserve.supervisor.parts import Parts

log = logging.getLogger(__name__)


MIN_OPEN_FILES = 256
"""A server with one workspace and one model has about a hundred."""


class TooFewFiles(Overloaded):
    """The limit of open files is {limit} (ulimit -n), and a server needs at least {least}. Raise the limit, for \
example with: ulimit -n 4096"""


class NoRay(Unsupported):
    """A cluster needs Ray, which is not installed: pip install 'tfserve[ray]'"""


class UnprotectedAddress(Forbidden):
    """Other machines can reach the address {host}, and authentication is off (TFSERVE_AUTH=off): every client that \
reaches it could run programs on this machine. Leave out TFSERVE_AUTH, listen on 127.0.0.1, or set \
TFSERVE_ALLOW_UNAUTHENTICATED=1 to allow this."""


def in_foreground(text: str) -> None:
    print(f"{text}\nCtrl-C stops it.", flush=True)


def main(settings: Settings, on_ready: Callable[[str], None] = in_foreground) -> int:
    """Runs the server until it is stopped; calls `on_ready` when it is up. Returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    callers_umask = os.umask(UMASK)
    os.environ.update(with_sources(settings))
    try:
        _raise_limits()
        if settings.auth == "off" and not settings.is_loopback and not settings.allow_unauthenticated:
            raise UnprotectedAddress(host=settings.host)
        if settings.access_log_path is not None:  # a missing folder is reported now, not at every line
            settings.access_log_path.open("ab").close()
        make_private(settings.data_path)
        if settings.standby:
            wait_until_free(settings)
        refuse_interrupted_restore(settings.data_path)
        lock = DataFolderLock(settings.data_path)
    except (TFserveError, OSError) as error:
        return _refuse(error)
    try:
        settings = with_certificate(settings)
        if (certificate := files_of(settings)) is not None:
            server_context(certificate)  # unusable files are reported now
        ports = [settings.port, *filter(None, (settings.training_port, settings.v1_port))]
        sockets = [listen(settings.host, port, settings.web_processes) for port in ports]
        members = _listen_for_members(settings)
        held = [hold(settings.host, settings.grpc_port)] if settings.grpc_port else []
        settings = _resolved(settings, sockets[0][0], members)
        if settings.cluster:
            os.environ.update(_membership(settings).environment)
        owner = f"{owner_of(settings.data_dir)}{os.getpid()}:{secrets.token_hex(4)}"
        database = open_database(settings, owner)
    except (TFserveError, OSError) as error:
        lock.release()
        return _refuse(error)
    except BaseException:
        lock.release()
        raise
    supervisor = Supervisor(
        settings, sockets, lock, on_ready, callers_umask, owner=owner, database=database, members=members
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(supervisor.run())
    except TFserveError as error:  # the database can't be read
        return _refuse(error)
    finally:
        for sock in held:
            sock.close()
        lock.release()


def _raise_limits() -> None:
    """Raises the limit of open files to its maximum, because a worker takes four. Raises `TooFewFiles`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < MIN_OPEN_FILES and hard != resource.RLIM_INFINITY:
        raise TooFewFiles(limit=hard, least=MIN_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _refuse(error: TFserveError | OSError) -> int:
    print(f"tfserve: {_sentence(error)}", file=sys.stderr)
    return 1


def _sentence(error: TFserveError | OSError) -> str:
    if isinstance(error, TFserveError):
        return error.message
    return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)


def _listen_for_members(settings: Settings) -> list[socket.socket]:
    """A listening socket for each web process, to which nodes of the cluster forward requests. Empty without one."""
    return listen(settings.cluster_host, settings.cluster_http_port, settings.web_processes) if settings.cluster else []


def _resolved(settings: Settings, sock: socket.socket, members: list[socket.socket]) -> Settings:
    """The settings for every process of this server: with absolute paths and the actual ports."""
    return replace(
        settings,
        data_dir=str(settings.data_path),
        roots=os.pathsep.join(map(str, settings.root_paths)),
        port=sock.getsockname()[1],
        cluster_http_port=members[0].getsockname()[1] if members else settings.cluster_http_port,
        access_log=str(settings.access_log_path or settings.access_log),
        tls_cert=_absolute(settings.tls_cert),
        tls_key=_absolute(settings.tls_key),
        tls_client_ca=_absolute(settings.tls_client_ca),
        models=str(Path(settings.models).absolute()) if settings.models else "",
    )


def _membership(settings: Settings) -> Membership:
    """This machine as the head of a cluster, for every process that it starts."""
    if importlib.util.find_spec("ray") is None:
        raise NoRay
    from tfserve.cluster.identity import HEAD, Authority
    from tfserve.cluster.membership import Membership
    from tfserve.supervisor.cluster.own_address import host_of

    return Membership(Authority.open(settings.data_path / "cluster"), HEAD, host_of(settings))


def _absolute(path: str) -> str:
    return str(Path(path).absolute()) if path else ""


def open_database(settings: Settings, owner: str) -> Database:
    """Takes the database for this process. Raises a `TFserveError` if it can't be used."""
    is_postgresql = bool(settings.database_url)
    folder_database.check(settings.data_path, is_postgresql=is_postgresql)
    os.environ.update(to_environment(settings))
    os.environ["DJANGO_SETTINGS_MODULE"] = "tfserve.django_settings"
    django.setup()
    from tfserve.db.database import Database  # it needs Django to be set up

    database = Database(owner)
    folder_database.mark(settings.data_path, is_postgresql=is_postgresql)
    return database


class Supervisor:
    """Starts and stops all parts, in the right order."""

    def __init__(
        self,
        settings: Settings,
        sockets: list[list[socket.socket]],
        lock: DataFolderLock,
        on_ready: Callable[[str], None],
        callers_umask: int,
        *,
        owner: str,
        database: Database,
        members: list[socket.socket],
    ) -> None:
        self._database = database
        self._callers_umask = callers_umask
        self._lock = lock
        self._on_ready = on_ready
        self._settings = settings
        self._sockets = sockets
        self._members: list[socket.socket | None] = [*members] or [None] * settings.web_processes
        self._owner = owner
        self._stop = asyncio.Event()
        self._signals = 0
        self._parts: Parts | None = None

    async def run(self) -> int:
        """Returns the exit code."""
        self._take_charge()
        service: asyncio.Future[SupervisorService] = asyncio.get_running_loop().create_future()
        start_web = partial(WebProcess, self._settings, self._owner, service=service)
        listening = zip(zip(*self._sockets, strict=True), self._members, strict=True)
        web = [start_web(sockets=own, members=members) for own, members in listening]
        # They import their modules while this process imports its own.
        await asyncio.gather(*(process.launched.wait() for process in web))
        parts = await self._begun()
        offered = SupervisorService(
            parts.api.handle, {GetModels: parts.announcements.everything, GetAccessRules: parts.access.rules}
        )
        service.set_result(offered)
        parts.serve(offered)
        parts.work_regularly()
        came_up = await self._started(web)
        if came_up:
            await self._stop.wait()
        await parts.drain()
        await asyncio.gather(*(process.stop() for process in web))
        await parts.spare.close()
        await _close(parts.journal)
        return 0 if came_up or self._signals else 1

    async def _begun(self) -> Parts:
        from tfserve.supervisor.parts import Parts  # its models can be imported once Django is set up

        parts = self._parts = Parts(self._settings, self._database, self._owner, self._callers_umask)
        await parts.begin()
        return parts

    def _take_charge(self) -> None:
        """From now on, nothing that this server starts can outlive it."""
        linux.adopt_orphans()
        records = self._settings.data_path / "processes"
        records.mkdir(exist_ok=True)
        self._process_record = records / self._owner.replace(":", "-")
        kill_leftovers(owner_of(self._settings.data_dir), records)
        # The guardian reads from a pipe that ends with this process.
        self._guarded_end, self._guarding_end = os.pipe()
        self._start_guardian()
        loop = asyncio.get_running_loop()
        for number in linux.stop_signals():
            loop.add_signal_handler(number, self._on_signal)

    def _start_guardian(self) -> None:
        program = Path(__file__).parent / "processes" / "guardian.py"
        guardian = Child.start(
            [sys.executable, "-I", "-S", str(program), self._owner, str(os.getpid()), str(self._process_record)],
            role=Role.GUARDIAN,
            environment={"PATH": os.environ.get("PATH", ""), OWNER: ""},
            stdin=self._guarded_end,
            output=subprocess.DEVNULL,
        )
        guardian.ended.add_done_callback(self._on_guardian_end)

    def _on_guardian_end(self, ended: asyncio.Future[Exit]) -> None:
        if ended.result().lived_s > 1:  # one that can't start is not restarted again and again
            self._start_guardian()

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals > 1:
            print("tfserve: stopped immediately", file=sys.stderr, flush=True)
            os._exit(1)  # the guardian ends the rest
        if self._parts is not None:  # nothing is accepted from now on
            self._parts.api.stopping = True
        self._stop.set()  # before the output, which may have no reader any more
        with contextlib.suppress(OSError):
            print("tfserve: waiting for running jobs to end; a second signal stops immediately", flush=True)

    async def _started(self, web: list[WebProcess]) -> bool:
        """Whether the server came up before it was stopped."""
        ready: asyncio.Future[Any] = asyncio.gather(*(process.ready for process in web))
        stopped = asyncio.get_running_loop().create_task(self._stop.wait())
        await asyncio.wait([ready, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ready.done():
            return False
        if (problem := ready.exception()) is not None:
            print(f"tfserve: {problem}; see the log lines above", file=sys.stderr, flush=True)
            return False
        self._report_ready(await self._parts.access.first_link() if self._parts else None)
        return True

    def _report_ready(self, password_link: str | None) -> None:
        settings = self._settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        origin = f"{settings.scheme}://{host}"
        address = f"{origin}:{settings.port}"
        training = f"\n  train  {origin}:{settings.training_port}" if settings.training_port else ""
        v1 = f"\n  v1     {origin}:{settings.v1_port}/v1/models" if settings.v1_port else ""
        grpc = f"\n  gRPC   {host}:{settings.grpc_port}" if settings.grpc_port else ""
        password = f"\n  admin  {address}{password_link} sets the password of the pages, once" if password_link else ""
        self._lock.write(address)
        self._on_ready(
            f"TFserve {__version__} is ready (pid {os.getpid()}, data in {settings.data_dir})\n"
            f"  pages  {address}/\n"
            f"  API    curl -X POST {address}/   (OpenAPI: {address}/openapi.json){training}{v1}{grpc}"
            f"{password}{_trial_certificate(settings)}"
        )


def _trial_certificate(settings: Settings) -> str:
    """How clients can trust the self-signed certificate, for the ready message."""
    if not settings.tls_self_signed:
        return ""
    return (
        f"\n  TLS    self-signed certificate, SHA-256 {fingerprint(Path(settings.tls_cert))}"
        f"\n         curl --cacert {settings.tls_cert} https://localhost:{settings.port}/v2/health/ready"
    )


async def _close(journal: Journal) -> None:
    """Saves how long the server has run, and waits for the last commit."""
    from tfserve.db import running_time

    with contextlib.suppress(TFserveError):
        await journal.change(running_time.save)
    await journal.close()
    with contextlib.suppress(OSError):
        print("tfserve: stopped", flush=True)
