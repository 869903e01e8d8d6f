"""The statements of a commit's hot path, as SQL.

Everything else goes through Django's ORM. These run once or more for every job, and in the ORM they took more time
than the disk (`docs/explanation/benchmarks.md`). Table and column names come from the models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import connection, models

from tfserve.db import running_time
from tfserve.db.models import Job, Outcome, Snapshot, Workspace
from tfserve.ipc.messages import JobState

JOB, OUTCOME, WORKSPACE, SNAPSHOT = (model._meta.db_table for model in (Job, Outcome, Workspace, Snapshot))
JOB_FIELDS: tuple[models.Field[Any, Any], ...] = tuple(
    field for field in Job._meta.local_fields if not field.primary_key
)
MARKS = ", ".join(["%s"] * len(JOB_FIELDS))
COLUMNS = ", ".join(str(field.column) for field in JOB_FIELDS)

INSERT_JOB = f"INSERT INTO {JOB} ({COLUMNS}) VALUES ({MARKS}) RETURNING id"  # noqa: S608 (names of our own)
# Steps of queues are repeated until they are acknowledged, so each may be on the disk already.
INSERT_OUTCOME = (
    f"INSERT INTO {OUTCOME} (job_id, result, error, detail) VALUES (%s, %s, %s, %s)"  # noqa: S608
    " ON CONFLICT (job_id) DO NOTHING"
)
FINISH_JOB = f"UPDATE {JOB} SET state = %s, finished_at = %s, finished_running_s = %s WHERE id = %s"  # noqa: S608
FINISH_AND_FORGET_JOB = (
    f"UPDATE {JOB} SET state = %s, finished_at = %s, finished_running_s = %s, request = NULL WHERE id = %s"  # noqa: S608
)
START_JOB = f"UPDATE {JOB} SET state = %s, started_at = %s, attempts = attempts + 1 WHERE id = %s AND state <> %s"  # noqa: S608
NEXT_NUMBER = f"SELECT next_number FROM {WORKSPACE} WHERE id = %s"  # noqa: S608
SET_NEXT_NUMBER = f"UPDATE {WORKSPACE} SET next_number = %s WHERE id = %s"  # noqa: S608
KEEP_VARIABLES = (
    f"INSERT INTO {SNAPSHOT} (workspace_id, variables, types) VALUES (%s, %s, %s)"  # noqa: S608
    " ON CONFLICT (workspace_id) DO UPDATE SET variables = excluded.variables, types = excluded.types"
)


def insert_job(job: Job) -> None:
    """Saves a new job and gives it its id."""
    with connection.cursor() as cursor:
        cursor.execute(
            INSERT_JOB, [field.get_db_prep_save(getattr(job, field.attname), connection) for field in JOB_FIELDS]
        )
        (job.pk,) = cursor.fetchone()


def insert_outcomes(rows: Sequence[tuple[int, str | None, str | None, str | None]]) -> None:
    """Rows of job id, result, error and detail."""
    _many(INSERT_OUTCOME, rows)


def finish_jobs(ids: Iterable[tuple[JobState, int]], now: datetime, *, forget_request: bool) -> None:
    finished_at, running_s = _moment(now), running_time.now_s()
    _many(
        FINISH_AND_FORGET_JOB if forget_request else FINISH_JOB,
        [(state.value, finished_at, running_s, job_id) for state, job_id in ids],
    )


def start_jobs(ids: Iterable[int], now: datetime) -> None:
    started_at = _moment(now)
    running = JobState.RUNNING.value
    _many(START_JOB, [(running, started_at, job_id, running) for job_id in ids])


def next_number(workspace_id: int) -> int | None:
    """The number that the workspace's next job gets; None when there is no such workspace any more."""
    with connection.cursor() as cursor:
        cursor.execute(NEXT_NUMBER, [workspace_id])
        row = cursor.fetchone()
        return None if row is None else int(row[0])


def set_next_number(workspace_id: int, number: int) -> None:
    _many(SET_NEXT_NUMBER, [(number, workspace_id)])


def keep_variables(snapshots: dict[int, tuple[bytes, bytes]]) -> None:
    """The variables of each workspace and their types, in place of those before."""
    rows = [(workspace_id, values.decode(), types.decode()) for workspace_id, (values, types) in snapshots.items()]
    _many(KEEP_VARIABLES, rows)


def _many(statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(statement, rows)


def _moment(now: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(now)
