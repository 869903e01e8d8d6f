"""Django for the modules that have tables, a database for each test, and an event loop for coroutines."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import inspect
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import django
import psutil
import pytest
import uvloop
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from tfserve.supervisor.processes import child as processes


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


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs tests that are coroutines, on an event loop as the server has it."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(autouse=True)
def _other_processes_live_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor kills children that it has not started when a worker dies; other tests have started some."""
    for child in psutil.Process().children():
        monkeypatch.setitem(processes._ours, child.pid, None)


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
