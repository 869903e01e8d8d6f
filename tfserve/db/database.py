"""Ensures that only one server at a time writes a database, and that the database is not replaced meanwhile.

SQLite: the data folder's lock keeps other servers out, and the files are compared with those that were opened, because
SQLite continues to write to a file that was deleted or replaced. PostgreSQL: the connection that writes holds an
advisory lock, so what is committed was written by the holder of the lock.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DatabaseError as AnyDatabaseError
from django.db import Error as DatabaseError
from django.db import InterfaceError, InternalError, OperationalError, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader

from tfserve.db import running_time
from tfserve.db.locking import LOCK_CLASS, SET_KEEPALIVES
from tfserve.db.models import ServerState
from tfserve.errors import Conflict, DatabaseUnavailable

LOCK_PATIENCE_S, LOCK_PAUSE_S = 3.0, 0.1
"""A server that was killed a moment ago may still have its connection."""
CHECKED_BYTES = 256 * 1024 * 1024
"""Larger SQLite files are not checked at the start, because it would take seconds."""
MAX_CAUSE = 300


class DatabaseUnusable(Conflict):
    """The database {where} can't be used: {cause}"""


class DatabaseInUse(Conflict):
    """The database {where} is in use by another TFserve ({holder}). Stop that one, or choose another database with \
TFSERVE_DATABASE_URL."""


class DatabaseTaken(DatabaseUnavailable):
    """Another TFserve writes this database since the connection was lost, so this server writes nothing any more. \
Stop one of the two and restart this one."""


class DatabaseLost(DatabaseUnavailable):
    """The database file {file} was {what} while the server was running, so nothing is acknowledged any more. Put the \
original file back, or restart the server to continue with the present file."""


class Database:
    """The database of a running server, to be used by the one thread that writes."""

    def __init__(self, owner: str) -> None:
        """Takes the database, creates or upgrades its tables. Raises `DatabaseUnusable`, `DatabaseInUse`."""
        self._owner = owner
        try:
            self._is_postgresql = connection.vendor == "postgresql"
            if self._is_postgresql:
                if not _lock_patiently():
                    raise DatabaseInUse(where=where(), holder=_lock_holder())
            else:
                _check_file()
            _refuse_newer_schema()
            call_command("migrate", verbosity=0, interactive=False)
            #: how many servers have started on it
            self.epoch = _sign(owner)
            running_time.start()
        except (DatabaseError, ImproperlyConfigured, ModuleNotFoundError) as error:
            connection.close()
            raise DatabaseUnusable(where=where(), cause=cause_of(error)) from error
        self._files = _identities()
        self._session: Any = connection.connection
        self._wrapper: BaseDatabaseWrapper = connections[connection.alias]
        self._wrapper.inc_thread_sharing()
        del connections[connection.alias]  # from here on it belongs to the thread that calls `adopt`

    def adopt(self) -> None:
        """Makes the connection that holds the database the one of the calling thread."""
        connections[self._wrapper.alias] = self._wrapper

    def before_write(self) -> None:
        """Raises `DatabaseTaken` when another server has taken the database while the connection was lost."""
        if not self._is_postgresql:
            return
        connection.ensure_connection()
        if connection.connection is self._session:
            return
        if not _lock_patiently() or ServerState.objects.values_list("owner", flat=True).first() != self._owner:
            connection.close()
            raise DatabaseTaken
        self._session = connection.connection

    def after_write(self) -> None:
        """Raises `DatabaseLost` when what was committed is in a file that is not the database any more."""
        for file, identity in self._files.items():
            try:
                found = os.stat(file)  # noqa: PTH116 (in every commit)
            except FileNotFoundError:
                raise DatabaseLost(file=file, what="deleted") from None
            if (found.st_dev, found.st_ino) != identity:
                raise DatabaseLost(file=file, what="replaced")

    def probe(self) -> None:
        """Raises a database error if the database does not respond."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")


def where() -> str:
    """The database, for people: without its password."""
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return str(settings["NAME"])
    return f"{settings['NAME']} at {settings['HOST'] or 'localhost'}:{settings['PORT'] or 5432}"


def cause_of(error: BaseException) -> str:
    return " ".join(str(error).split())[:MAX_CAUSE] or type(error).__name__


def is_outage(error: BaseException) -> bool:
    """Whether an error says that the database can't be used now, not that a statement is wrong."""
    return isinstance(error, InterfaceError | OperationalError | InternalError) or type(error) is AnyDatabaseError


def _check_file() -> None:
    file = Path(connection.settings_dict["NAME"])
    file.touch(mode=0o600)
    with connection.cursor() as cursor:
        if file.stat().st_size < CHECKED_BYTES:
            cursor.execute("PRAGMA quick_check(1)")
            if (found := cursor.fetchone()[0]) != "ok":
                raise DatabaseError(f"the file is corrupt ({found}). Restore it from a backup")


def _refuse_newer_schema() -> None:
    loader = MigrationLoader(connection)
    applied = {key for key in loader.applied_migrations if key[0] == "control"}
    if unknown := sorted(applied - set(loader.disk_migrations)):
        raise DatabaseError(
            f"it was written by a newer TFserve (its tables are at {unknown[-1][1]}). Install that version"
        )


def _sign(owner: str) -> int:
    """Returns the number of this start."""
    state, _ = ServerState.objects.get_or_create(pk=1, defaults={"owner": owner})
    state.owner, state.epoch = owner, state.epoch + 1
    state.save(update_fields=["owner", "epoch"])
    return state.epoch


def _identities() -> dict[str, tuple[int, int]]:
    """Device and inode of SQLite's files. All of them exist once something was written."""
    if connection.vendor != "sqlite":
        return {}
    name = str(connection.settings_dict["NAME"])
    files = [file for file in (name, f"{name}-wal", f"{name}-shm") if Path(file).exists()]
    return {file: ((found := Path(file).stat()).st_dev, found.st_ino) for file in files}


def _lock_patiently() -> bool:
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while not (locked := _try_lock()) and time.monotonic() < deadline:
        time.sleep(LOCK_PAUSE_S)
    return locked


def _try_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(SET_KEEPALIVES)
        cursor.execute(
            "SELECT set_config('application_name', %s, false)", [f"tfserve {socket.gethostname()} pid {os.getpid()}"]
        )
        cursor.execute("SELECT pg_try_advisory_lock(%s, hashtext(current_schema()))", [LOCK_CLASS])
        return bool(cursor.fetchone()[0])


def _lock_holder() -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT application_name, client_addr FROM pg_stat_activity JOIN pg_locks USING (pid)"
            " WHERE locktype = 'advisory' AND classid = %s AND granted",
            [LOCK_CLASS],
        )
        row = cursor.fetchone()
    return "unknown" if row is None else f"{row[0]}, connected from {row[1] or 'this machine'}"
