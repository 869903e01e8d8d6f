"""Web processes: kept alive, given up when they never come up, and stopped; and the sockets that they share."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from supervised import DEADLINE_S, is_running, until

from tfserve.config import Settings
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import AccessRules, GetAccessRules, GetModels, Message, Models
from tfserve.supervisor import web_processes
from tfserve.supervisor.processes import restarts
from tfserve.supervisor.processes.child import Role, living
from tfserve.supervisor.web_processes import SupervisorService, WebProcess, hold, listen

NO_PYTHON = "/nowhere"
"""As PYTHONHOME it ends every new interpreter before its first line."""


@pytest.fixture(autouse=True)
def _as_a_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tfserve.django_settings")
    monkeypatch.setattr(restarts, "FIRST_DELAY_S", 0.01)


class Keeper:
    """The supervisor's side of one web process."""

    def __init__(self, settings: Settings, sock: socket.socket) -> None:
        self.connections: list[Connection] = []
        self.service: asyncio.Future[SupervisorService] = asyncio.get_running_loop().create_future()
        self.process = WebProcess(settings, "owner:1", sockets=[sock], service=self.service)

    def begin(self) -> None:
        subscriptions = {GetModels: self._models, GetAccessRules: self._rules}
        self.service.set_result(SupervisorService(self._handle, subscriptions))

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in living() if child.role == Role.WEB]

    def _models(self, connection: Connection) -> Message:
        self.connections.append(connection)
        return Models(models={})

    def _rules(self, _: Connection) -> Message:
        return AccessRules(is_required=False, tokens=[])

    async def _handle(self, _: Message) -> None:
        """It sends no other requests."""


@asynccontextmanager
async def keeper(database: Path) -> AsyncIterator[Keeper]:
    """The settings are those of a server on the test's database."""
    with listen("127.0.0.1", 0, 1)[0] as sock:
        settings = Settings(data_dir=str(database.parent), port=sock.getsockname()[1])
        kept = Keeper(settings, sock)
        await kept.process.launched.wait()  # before the service, as when a server starts
        kept.begin()
        try:
            yield kept
        finally:
            await kept.process.stop()


async def test_a_web_process_that_dies_is_started_again(database: Path) -> None:
    async with keeper(database) as kept:
        await asyncio.wait_for(kept.process.ready, DEADLINE_S)
        (pid,) = kept.pids
        os.kill(pid, signal.SIGKILL)
        await until(lambda: len(kept.connections) == 2)
        (next_pid,) = kept.pids
        assert next_pid != pid
    assert not is_running(next_pid), "it ends with the server"


async def test_a_web_process_that_hangs_is_replaced(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_processes, "PING_S", 0.5)
    async with keeper(database) as kept:
        await asyncio.wait_for(kept.process.ready, DEADLINE_S)
        (pid,) = kept.pids
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: len(kept.connections) == 2)
        assert kept.pids != [pid]
        assert not is_running(pid)


async def test_a_web_process_that_never_came_up_is_given_up(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", NO_PYTHON)
    async with keeper(database) as kept:
        with pytest.raises(RuntimeError, match=r"^the web process can't be started$"):
            await asyncio.wait_for(kept.process.ready, DEADLINE_S)
        assert kept.pids == []


async def test_a_program_that_can_not_be_started_is_given_up(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    async with keeper(database) as kept:
        with pytest.raises(RuntimeError, match=r"^the web process can't be started$"):
            await asyncio.wait_for(kept.process.ready, DEADLINE_S)


async def test_a_batch_process_that_never_came_up_is_tried_without_end(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: asyncio.Future[SupervisorService] = asyncio.get_running_loop().create_future()
    settings = Settings(data_dir=str(database.parent))
    with monkeypatch.context() as broken:
        broken.setattr("sys.executable", "/nowhere/python")
        process = WebProcess(settings, "owner:1", sockets=[], service=service, role=Role.BATCH)
        await until(lambda: process._restarts.deaths > restarts.MAX_DEATHS)
    assert not process.ready.done()
    assert not process._keeper.done()
    await process.stop()


async def test_one_that_was_up_is_restarted_without_end(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with keeper(database) as kept:
        await asyncio.wait_for(kept.process.ready, DEADLINE_S)
        (pid,) = kept.pids
        with monkeypatch.context() as broken:
            broken.setenv("PYTHONHOME", NO_PYTHON)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: kept.process._restarts.given_up)
        await until(lambda: len(kept.connections) == 2)


async def test_a_web_process_that_does_not_stop_in_time_is_killed(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_processes, "STOP_GRACE_S", 0.05)
    async with keeper(database) as kept:
        await asyncio.wait_for(kept.process.ready, DEADLINE_S)
        (pid,) = kept.pids
        os.kill(pid, signal.SIGSTOP)
        await kept.process.stop()
        assert not is_running(pid)


def test_a_port_in_use_is_reported_with_the_address() -> None:
    with listen("127.0.0.1", 0, 1)[0] as sock:
        port = sock.getsockname()[1]
        takes = (partial(listen, processes=1), partial(listen, processes=2), hold)
        for take in takes:
            with pytest.raises(OSError, match=rf"can't listen on 127\.0\.0\.1:{port}: Address already in use"):
                take("127.0.0.1", port)


def test_sockets_of_several_processes_share_a_port_that_no_other_server_can_take() -> None:
    sockets = listen("127.0.0.1", 0, 3)
    ports = {sock.getsockname()[1] for sock in sockets}
    assert len(sockets) == 3
    assert len(ports) == 1
    for processes in (1, 2):
        with pytest.raises(OSError, match="Address already in use"):
            listen("127.0.0.1", ports.copy().pop(), processes)
    clients = [socket.create_connection(sockets[0].getsockname()) for _ in range(60)]
    for sock in sockets:
        sock.accept()[0].close()  # each of them gets connections, without which this would not return
    for each in (*clients, *sockets):
        each.close()
    [again] = listen("127.0.0.1", ports.pop(), 1)  # at once, in spite of the connections that have just been closed
    again.close()


def test_a_held_port_can_be_shared_but_not_taken() -> None:
    with listen("127.0.0.1", 0, 1)[0] as sock:
        port = sock.getsockname()[1]
    with hold("127.0.0.1", port):
        with socket.socket() as sharing:
            sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sharing.bind(("127.0.0.1", port))
        with pytest.raises(OSError, match=rf"can't listen on 127\.0\.0\.1:{port}"):
            listen("127.0.0.1", port, 1)


def test_addresses_of_both_families_are_listened_on() -> None:
    with listen("::1", 0, 1)[0] as sock:
        assert sock.family == socket.AF_INET6
