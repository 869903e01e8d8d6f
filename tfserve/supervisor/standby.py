"""A standby: a server that waits until data folder and database of another server are free, and then takes over.

It waits in two locks, which the kernel and PostgreSQL release when their holder ends, so nothing is polled. The
database fences the former server: a commit needs the connection that holds its lock (`tfserve.db.database`).
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from tfserve.config import Settings
from tfserve.db.locking import LOCK_CLASS, SET_KEEPALIVES
from tfserve.errors import Unavailable
from tfserve.supervisor.lock import holder


class StandbyLostDatabase(Unavailable):
    """The standby can't wait for the database: {cause}"""


def wait_until_free(settings: Settings) -> None:
    """Returns when no other server has the data folder and the database. Raises `StandbyLostDatabase`."""
    _report(settings)
    _wait_for_folder(settings.data_path)
    if settings.database_url:
        _wait_for_database(settings.database_url)


def _report(settings: Settings) -> None:
    other = holder(settings.data_path)
    what = f"pid {other.pid} at {other.address}" if other.is_alive else "the server on its database, if there is one"
    print(f"tfserve: standby (pid {os.getpid()}), takes over when {what} ends", flush=True)


def _wait_for_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    finally:
        os.close(fd)


def _wait_for_database(url: str) -> None:
    import psycopg  # an extra

    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SET_KEEPALIVES)
            connection.execute("SELECT pg_advisory_lock(%s, hashtext(current_schema()))", [LOCK_CLASS])
    except psycopg.Error as error:
        raise StandbyLostDatabase(cause=" ".join(str(error).split())) from None
