"""`tfserve backup` and `tfserve restore`: the data of a server in one file, also while the server runs."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tfserve import __version__, backups
from tfserve.backups import BackupUnusable, Manifest, Summary
from tfserve.config import Settings, to_environment
from tfserve.db import copies, folder_database
from tfserve.errors import Conflict, DatabaseUnavailable, Invalid, NotFound, TFserveError
from tfserve.supervisor.lock import NAME as LOCK
from tfserve.supervisor.lock import DataFolderLock, holder
from tfserve.supervisor.private_files import UMASK

MIB = 1024 * 1024
IGNORED = {LOCK, "lost+found"}
"""Names that an empty data folder may have."""


class NothingToBackUp(NotFound):
    """The folder {folder} has no database of TFserve. Choose the server's data folder with --data-dir, and set \
TFSERVE_DATABASE_URL if the server uses PostgreSQL."""


class DataFolderNotEmpty(Conflict):
    """The data folder {folder} {state}. Restore into an empty folder: choose one with --data-dir."""


class FileExists(Conflict):
    """{file} exists already. Choose another name, or remove it."""


def backup(file: Path, settings: Settings) -> int:
    """Returns the exit code."""
    return _reported(lambda: _back_up(file.absolute(), settings))


def restore(file: Path, settings: Settings) -> int:
    """Returns the exit code."""
    return _reported(lambda: _restore(file.absolute(), settings))


def _reported(work: Callable[[], str]) -> int:
    callers_umask = os.umask(UMASK)
    try:
        print(work())
        return 0
    except TFserveError as error:
        print(f"tfserve: {error.message}", file=sys.stderr)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"tfserve: {error.strerror}{where}", file=sys.stderr)
    finally:
        os.umask(callers_umask)
    return 1


# --- backup


def _back_up(file: Path, settings: Settings) -> str:
    folder = settings.data_path
    backups.refuse_interrupted_restore(folder)
    folder_database.check(folder, is_postgresql=bool(settings.database_url))
    if not folder.is_dir() or not (settings.database_url or (folder / copies.FILE).is_file()):
        raise NothingToBackUp(folder=str(folder))
    if file.is_relative_to(folder):
        raise Invalid(f"The backup {file} would be in the data folder that it contains. Choose another folder.")
    if file.exists():
        raise FileExists(file=str(file))
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as temporary:
        summary = _write(Path(temporary), file, settings)
    left_out = f"\n  left out (links and special files): {', '.join(summary.left_out)}" if summary.left_out else ""
    return f"{file}: the database and {summary.files} files, {summary.size / MIB:.1f} MiB{left_out}"


def _write(temporary: Path, file: Path, settings: Settings) -> Summary:
    """The database is copied before the files, so it has no job whose output is incomplete in the backup."""
    database = temporary / "database"
    database.mkdir()
    kind = _copy_database(database, settings)
    manifest = Manifest(
        tfserve=__version__, created_at=datetime.now(UTC).isoformat(), database=kind, data_dir=str(settings.data_path)
    )
    unfinished = temporary / "backup"
    with unfinished.open("xb") as archive:
        summary = backups.write(archive, manifest, database, settings.data_path)
        archive.flush()
        os.fsync(archive.fileno())
    unfinished.rename(file)
    _sync(file.parent)
    return summary


def _copy_database(folder: Path, settings: Settings) -> str:
    """Copies the database into the folder. Returns its kind."""
    if not settings.database_url:
        try:
            copies.copy_sqlite(settings.data_path / copies.FILE, folder)
        except sqlite3.Error as error:
            raise DatabaseUnavailable(f"The database can't be copied: {error}") from error
        return copies.SQLITE
    _in_database(settings, lambda: copies.copy_postgresql(folder))
    return copies.POSTGRESQL


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


# --- restore


def _restore(file: Path, settings: Settings) -> str:
    folder = settings.data_path
    if not file.is_file():
        raise NotFound(f"File {file} not found.")
    backups.refuse_interrupted_restore(folder)
    _refuse_unless_empty(folder)
    lock = DataFolderLock(folder)  # no server starts meanwhile
    try:
        _refuse_unless_empty(folder)
        with backups.staged(folder) as move:
            staging = folder / backups.RESTORING
            manifest, summary = backups.extract(file, staging)
            _check_database(file, manifest, settings, staging / backups.DATABASE)
            _install(file, manifest, settings, move)
    finally:
        lock.release()
    return (
        f"{folder}: the database and {summary.files} files of {manifest.created_at[:19]}Z (TFserve {manifest.tfserve})"
        f"\n  tfserve serve --data-dir {folder}"
    )


def _refuse_unless_empty(folder: Path) -> None:
    if (found := holder(folder)).is_alive and found.pid != os.getpid():
        raise DataFolderNotEmpty(folder=str(folder), state=f"is in use by a running server (pid {found.pid})")
    if folder.exists() and {path.name for path in folder.iterdir()} - IGNORED:
        raise DataFolderNotEmpty(folder=str(folder), state="is not empty")


def _check_database(file: Path, manifest: Manifest, settings: Settings, database: Path) -> None:
    kind = copies.POSTGRESQL if settings.database_url else copies.SQLITE
    if manifest.database != kind:
        hint = "unset" if settings.database_url else "set"
        problem = f"it contains a {manifest.database} database, and this is for {kind}: {hint} TFSERVE_DATABASE_URL."
        raise BackupUnusable(file=str(file), problem=problem)
    if kind == copies.SQLITE and (problem := copies.check_sqlite(database)):
        raise BackupUnusable(file=str(file), problem=f"its database is damaged ({problem}).")


def _install(file: Path, manifest: Manifest, settings: Settings, move: Callable[[], Any]) -> None:
    staging = settings.data_path / backups.RESTORING
    before, now = manifest.data_dir, str(settings.data_path)
    if manifest.database == copies.SQLITE:
        try:
            copies.move_sqlite(staging / backups.DATABASE, before, now)
        except sqlite3.Error as error:
            raise BackupUnusable(file=str(file), problem=f"its database can't be adjusted ({error}).") from error
        move()
        return
    tables = staging / "tables"  # not moved with the files
    (staging / backups.DATABASE).rename(tables)
    move()
    _in_database(settings, lambda: _load(file, tables, before, now))


def _load(file: Path, tables: Path, before: str, now: str) -> None:
    from django.db import transaction

    with transaction.atomic():
        if problem := copies.load_postgresql(tables, before, now):
            raise BackupUnusable(file=str(file), problem=problem)


def _in_database(settings: Settings, work: Callable[[], Any]) -> None:
    """Runs `work` with Django set up for PostgreSQL. Raises `DatabaseUnavailable`."""
    os.environ.update(to_environment(settings), DJANGO_SETTINGS_MODULE="tfserve.django_settings")
    import django
    from django.core.exceptions import ImproperlyConfigured
    from django.db import Error, connection

    try:
        django.setup()
        work()
    except (Error, ImproperlyConfigured) as error:
        raise DatabaseUnavailable(f"The PostgreSQL database can't be used: {error}") from error
    finally:
        connection.close()
