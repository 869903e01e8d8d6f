"""What tests of the supervisor have in common: async tests, a database of each test's own, and a supervisor on it."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import inspect
import shutil
import tempfile
import weakref
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import django
import pytest
import uvloop
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from supervised import OWNER, Start, Supervised, supervised, until

from tfserve.config import Settings
from tfserve.supervisor.processes import child as processes
from tfserve.supervisor.processes.output import Pipe


def _set_up_django() -> None:
    """Before the tests import models. Each test has a database of its own; this folder is for what settings write."""
    folder = tempfile.mkdtemp(prefix="tfserve-django-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TFSERVE_DATA_DIR", folder)
        environment.setenv("DJANGO_SETTINGS_MODULE", "tfserve.django_settings")
        django.setup()
        assert settings.SECRET_KEY


_set_up_django()

PIPES: weakref.WeakSet[Pipe] = weakref.WeakSet()
"""The pipes of all workers, so that a test can wait until they have ended."""


class _RecordedPipe(Pipe):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        PIPES.add(self)


@pytest.fixture(autouse=True)
def _pipes_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfserve.supervisor.processes.child.Pipe", _RecordedPipe)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs tests that are coroutines, on an event loop as the server has it."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    test = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_with_the_rest(test))
    return True


async def _with_the_rest(test: Coroutine[Any, Any, None]) -> None:
    """Waits until the pipes and connections to processes that have ended are closed.

    A pipe ends with the last process that writes to it, which may be a killed child of the one that has ended.
    """
    try:
        await test
    finally:
        await until(lambda: not any(pipe._open for pipe in PIPES))
        for _ in range(5):
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Whatever a test of the supervisor starts has ended when the test has."""
    yield
    assert [child.pid for child in processes.living()] == []


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that has its tables, to be copied."""
    with _database_at(tmp_path_factory.mktemp("migrated") / "migrated.sqlite3") as file:
        call_command("migrate", verbosity=0, interactive=False)
    return file


@pytest.fixture
def database(tmp_path: Path, migrated: Path) -> Iterator[Path]:
    """The file that is the database of every server in this test."""
    (tmp_path / "data").mkdir(mode=0o700)
    with _database_at(tmp_path / "data" / "tfserve.sqlite3") as file:
        shutil.copy(migrated, file)
        yield file


@pytest.fixture
def start(database: Path) -> Start:
    """Runs the supervisor on the test's data folder; one after the other, if several are wanted."""

    def begin(*, program: Sequence[str] | None = None, **settings: Any) -> AbstractAsyncContextManager[Supervised]:
        from tfserve.db.database import Database

        defaults = {"warm_spare": False, "cancel_grace_s": 0.3, "drain_s": 0.3}
        return supervised(
            Settings(data_dir=str(database.parent), **{**defaults, **settings}),
            asyncio.to_thread(Database, OWNER),
            **({"program": program} if program is not None else {}),
        )

    return begin


@contextlib.contextmanager
def _database_at(file: Path) -> Iterator[Path]:
    """Django is set up once for each process, and so is its database; here it is another one for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connections.settings["default"], "NAME", str(file))
        _forget_connection()
        yield file
        _forget_connection()


def _forget_connection() -> None:
    connections.close_all()
    with contextlib.suppress(AttributeError):  # this thread has had none
        del connections["default"]
