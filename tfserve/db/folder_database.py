"""The database that the files of a data folder belong to.

Rows of another, empty database would not know the workspaces, uploads and trainings in the folder, and would give their
numbers to new ones. Needs no Django.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from tfserve.db.copies import FILE
from tfserve.errors import Conflict

MARK = "database"
"""A file in the data folders of servers that use PostgreSQL."""
TEXT = "The rows of this data folder are in PostgreSQL (TFSERVE_DATABASE_URL).\n"
WITH_FILES = "SELECT EXISTS (SELECT 1 FROM control_workspace) OR EXISTS (SELECT 1 FROM control_trainingtask)"


class BelongsToPostgresql(Conflict):
    """The data folder {folder} belongs to a server on PostgreSQL. Set TFSERVE_DATABASE_URL as for that server, or \
choose another folder with --data-dir."""


class BelongsToSqlite(Conflict):
    """The data folder {folder} belongs to the database {file} in it, but TFSERVE_DATABASE_URL names another one. \
Unset TFSERVE_DATABASE_URL, or choose another folder with --data-dir."""


def check(folder: Path, *, is_postgresql: bool) -> None:
    """Raises `BelongsToPostgresql` or `BelongsToSqlite` if the other kind of database has the rows of this folder."""
    is_marked = (folder / MARK).exists()
    if is_marked and not is_postgresql:
        raise BelongsToPostgresql(folder=str(folder))
    if is_postgresql and not is_marked and _is_in_use(folder / FILE):
        raise BelongsToSqlite(folder=str(folder), file=FILE)


def mark(folder: Path, *, is_postgresql: bool) -> None:
    """Notes it for the next start."""
    if is_postgresql and not (folder / MARK).exists():
        (folder / MARK).write_text(TEXT)


def _is_in_use(file: Path) -> bool:
    """Whether the rows of this SQLite file have files in the folder. The file that `make setup` creates is empty."""
    if not file.is_file() or not file.stat().st_size:
        return False
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(file)) as database:
        return bool(database.execute(WITH_FILES).fetchone()[0])
    return True
