"""A data folder is not used with another database than the one that knows its files."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from tfserve.db import folder_database
from tfserve.db.copies import FILE
from tfserve.db.folder_database import BelongsToPostgresql, BelongsToSqlite


def sqlite_file(folder: Path, *, workspaces: int) -> None:
    with contextlib.closing(sqlite3.connect(folder / FILE)) as database:
        database.execute("CREATE TABLE control_workspace (id INTEGER)")
        database.execute("CREATE TABLE control_trainingtask (id INTEGER)")
        database.executemany("INSERT INTO control_workspace VALUES (?)", [(each,) for each in range(workspaces)])
        database.commit()


def test_a_new_folder_is_for_either_database(tmp_path: Path) -> None:
    for is_postgresql in (False, True):
        folder_database.check(tmp_path, is_postgresql=is_postgresql)


def test_the_folder_of_a_server_on_postgresql(tmp_path: Path) -> None:
    folder_database.mark(tmp_path, is_postgresql=True)
    folder_database.check(tmp_path, is_postgresql=True)
    with pytest.raises(BelongsToPostgresql, match="Set TFSERVE_DATABASE_URL"):
        folder_database.check(tmp_path, is_postgresql=False)


def test_the_folder_of_a_server_on_sqlite(tmp_path: Path) -> None:
    sqlite_file(tmp_path, workspaces=1)
    folder_database.mark(tmp_path, is_postgresql=False)
    folder_database.check(tmp_path, is_postgresql=False)
    with pytest.raises(BelongsToSqlite, match="Unset TFSERVE_DATABASE_URL"):
        folder_database.check(tmp_path, is_postgresql=True)


def test_an_empty_sqlite_file_does_not_keep_postgresql_out(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    folder_database.check(tmp_path, is_postgresql=True)
    sqlite_file(tmp_path, workspaces=0)
    folder_database.check(tmp_path, is_postgresql=True)
    folder_database.mark(tmp_path, is_postgresql=True)
    folder_database.check(tmp_path, is_postgresql=True)


def test_a_file_that_is_no_database_counts_as_one_in_use(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("this is a letter" * 1000)
    with pytest.raises(BelongsToSqlite):
        folder_database.check(tmp_path, is_postgresql=True)
