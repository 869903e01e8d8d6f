"""Consistent copies of the database of a running server, and databases made from them.

SQLite is copied as a file, PostgreSQL as one file per table in the format of COPY. Both are read in one transaction, so
a copy has every commit that was acknowledged before. Nothing waits for it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

SQLITE, POSTGRESQL = "sqlite", "postgresql"
FILE = "tfserve.sqlite3"
TABLES = "tables.json"
CHUNK = 1024 * 1024
MOVED = (
    ("control_deployment", "path"), ("control_deployment", "weights"), ("control_trainingtask", "project_dir"),
    ("control_trainingtask", "model_path"),
)  # fmt: skip
"""Columns with absolute paths."""

Execute = Callable[[str, tuple[str, ...]], Any]


class TableColumns(msgspec.Struct):
    name: str
    columns: list[str]


class Copy(msgspec.Struct):
    """What a copy of PostgreSQL contains: the last migration of each app, and the tables."""

    migrations: dict[str, str]
    tables: list[TableColumns]


# --- SQLite


def copy_sqlite(source: Path, folder: Path) -> None:
    """Raises `sqlite3.Error`."""
    target = folder / FILE
    with (
        contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=rw", uri=True)) as server,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        server.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log next to it


def check_sqlite(folder: Path) -> str:
    """What is wrong with an extracted database; empty if nothing is."""
    try:
        with contextlib.closing(sqlite3.connect(folder / FILE)) as database:
            found = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
            database.execute("SELECT COUNT(*) FROM control_job").fetchone()
            return "" if found == "ok" else found
    except sqlite3.Error as error:
        return str(error)


def move_sqlite(folder: Path, before: str, now: str) -> None:
    """Corrects the absolute paths in an extracted database."""
    with contextlib.closing(sqlite3.connect(folder / FILE)) as database, database:
        _move(lambda statement, values: database.execute(statement.replace("%s", "?"), values), before, now)


def _move(execute: Execute, before: str, now: str) -> None:
    """Corrects paths to files in the data folder, also in jobs that wait, after it has moved."""
    old, new = f"{before}/", f"{now}/"
    for table, column in MOVED:
        execute(
            f"UPDATE {table} SET {column} = replace({column}, %s, %s)"  # noqa: S608 - constants
            f" WHERE substr({column}, 1, {len(old)}) = %s",
            (old, new, old),
        )
    as_json = [msgspec.json.encode(path).decode().removesuffix('"') for path in (old, new)]
    execute(
        "UPDATE control_job SET request = replace(request, %s, %s) WHERE state IN ('queued', 'running')", (*as_json,)
    )


# --- PostgreSQL; Django must be set up


def copy_postgresql(folder: Path) -> None:
    """Raises a database error."""
    from django.db import connection, transaction

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor.execute("SELECT app, name FROM django_migrations ORDER BY id")
        copy = Copy(migrations=dict(cursor.fetchall()), tables=_tables(cursor))
        for table in copy.tables:
            with (folder / table.name).open("wb") as file, cursor.copy(f"COPY {_sql(table)} TO STDOUT") as rows:
                for data in rows:
                    file.write(data)
    (folder / TABLES).write_bytes(msgspec.json.encode(copy))


def load_postgresql(folder: Path, before: str, now: str) -> str:
    """Fills an empty database. Returns why it can't; empty if it could. Must be called in a transaction."""
    from django.core.management import call_command
    from django.db import connection
    from django.db.migrations.loader import MigrationLoader

    if connection.introspection.table_names():
        return "the PostgreSQL database has tables already. Restore into an empty database."
    try:
        copy = msgspec.json.decode((folder / TABLES).read_bytes(), type=Copy)
    except (FileNotFoundError, msgspec.MsgspecError) as error:
        return f"{TABLES} is damaged ({error})."
    if unknown := set(copy.migrations.items()) - set(MigrationLoader(None).disk_migrations):
        return f"it was made by a newer TFserve (its tables are at {sorted(unknown)[-1][1]}). Install that version."
    for app, migration in copy.migrations.items():
        call_command("migrate", app, migration, verbosity=0, interactive=False)
    with connection.cursor() as cursor:
        made = {table.name: set(table.columns) for table in _tables(cursor)}
        for table in copy.tables:
            if made.get(table.name) != set(table.columns):
                return f"its table {table.name!r} has other columns than expected, or is not one of TFserve."
        cursor.execute(f"TRUNCATE {', '.join(map(_quoted, made))} RESTART IDENTITY")
        for table in copy.tables:
            _fill(cursor, table, folder / table.name)
        _move(cursor.execute, before, now)
    return ""


def _fill(cursor: Any, table: TableColumns, file: Path) -> None:
    with file.open("rb") as content, cursor.copy(f"COPY {_sql(table)} FROM STDIN") as rows:
        while data := content.read(CHUNK):
            rows.write(data)
    cursor.execute(
        "SELECT column_name, pg_get_serial_sequence(%s, column_name) FROM information_schema.columns"
        " WHERE table_name = %s AND table_schema = current_schema()",
        (_quoted(table.name), table.name),
    )
    for column, sequence in cursor.fetchall():
        if sequence is not None:  # the next id follows the highest one
            highest = f"(SELECT MAX({_quoted(column)}) FROM {_quoted(table.name)})"  # noqa: S608 - quoted
            cursor.execute(f"SELECT setval(%s, {highest})", (sequence,))


def _tables(cursor: Any) -> list[TableColumns]:
    cursor.execute(
        "SELECT table_name, array_agg(column_name::text ORDER BY ordinal_position) FROM information_schema.columns"
        " JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' GROUP BY table_name ORDER BY table_name"
    )
    return [TableColumns(name, columns) for name, columns in cursor.fetchall()]


def _sql(table: TableColumns) -> str:
    return f"{_quoted(table.name)} ({', '.join(map(_quoted, table.columns))})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
