"""What the database itself says after the run, whichever it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

Query = Callable[[str], list[Any]]

NO_ROWS = {
    "jobs that ended without an outcome": "SELECT j.id FROM control_job j "
    "LEFT JOIN control_outcome o ON o.job_id = j.id "
    "WHERE j.state IN ('succeeded', 'failed', 'cancelled', 'lost') AND o.job_id IS NULL",
    "jobs with an outcome that have not ended": "SELECT j.id FROM control_job j "
    "JOIN control_outcome o ON o.job_id = j.id WHERE j.state NOT IN ('succeeded', 'failed', 'cancelled', 'lost')",
    "keys with several jobs": "SELECT idempotency_key FROM control_job WHERE idempotency_key IS NOT NULL "
    "GROUP BY workspace_id, idempotency_key HAVING count(*) > 1",
    "numbers that are given twice or skipped": "SELECT w.name FROM control_workspace w JOIN control_job j "
    "ON j.workspace_id = w.id GROUP BY w.id, w.name, w.next_number "
    "HAVING count(*) <> w.next_number OR max(j.number) <> w.next_number - 1",
    "workspaces with several active deployments": "SELECT workspace_id FROM control_deployment WHERE state = 'active' "
    "GROUP BY workspace_id HAVING count(*) > 1",
}  # fmt: skip


def problems(data_dir: Path, database_url: str) -> list[str]:
    if database_url:
        return _of_postgresql(database_url)
    with closing(sqlite3.connect(data_dir / "tfserve.sqlite3")) as connection:
        query: Query = lambda sql: connection.execute(sql).fetchall()  # noqa: E731
        (integrity,) = query("PRAGMA integrity_check")[0]
        return [*([] if integrity == "ok" else [f"the database is corrupt: {integrity}"]), *_problems(query)]


def _of_postgresql(url: str) -> list[str]:
    import psycopg

    with psycopg.connect(url) as connection:
        return _problems(lambda sql: connection.execute(sql.encode()).fetchall())


def _problems(query: Query) -> list[str]:
    found = [(name, query(sql)) for name, sql in NO_ROWS.items()]
    return [f"{name}: {rows[:20]}" for name, rows in found if rows]
