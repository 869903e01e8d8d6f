"""The database of each server that the tests start: a SQLite file of its own, or one of a private PostgreSQL.

`make test-postgresql` sets the variable. Each process that runs tests has a PostgreSQL server, which ends with it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import psycopg

from tests.acceptance.postgresql_server import PostgreSQL, private_server

KIND = "TFSERVE_TEST_DATABASE"
"""`sqlite` or `postgresql`."""
_running = ExitStack()
_names: dict[Path, str] = {}
"""The databases of the data folders. A server that is started again continues with the same one."""


def are_postgresql() -> bool:
    return os.environ.get(KIND, "sqlite") == "postgresql"


def settings(data_dir: Path) -> dict[str, str]:
    """Those of a server on this data folder."""
    return {"TFSERVE_DATABASE_URL": _url(data_dir)} if are_postgresql() else {}


def stop() -> None:
    _running.close()


def _url(data_dir: Path) -> str:
    running = _postgresql()
    if data_dir not in _names:
        name = f"test{len(_names)}"
        with psycopg.connect(running.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        _names[data_dir] = name
    return f"{running.url.rpartition('/')[0]}/{_names[data_dir]}"


@cache
def _postgresql() -> PostgreSQL:
    return _running.enter_context(private_server())
