"""Jobs that were running when the server ended: queued again where that is safe, otherwise recorded as lost."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tfserve.db import writes
from tfserve.db.models import Job as JobRow
from tfserve.errors import Failure
from tfserve.ipc.messages import JobKind, JobState, Outcome
from tfserve.supervisor.jobs.job import REPEATABLE
from tfserve.supervisor.processes.output import last_lines_of


def end_interrupted(saved: list[writes.Saved], data_folder: Path) -> list[writes.QueueStep]:
    """Queues the jobs that were running again, or ends them as lost."""
    steps = []
    for each in saved:
        again = [row for row in each.running if JobKind(row.kind) in REPEATABLE and row.attempts < 2]
        gone = [row for row in each.running if row not in again]
        each.waiting[:0] = again
        if each.running:
            steps.append(
                writes.QueueStep(
                    workspace_id=each.workspace.pk,
                    ended=[_lost(row, data_folder) for row in gone],
                    requeued=[row.pk for row in again],
                )
            )
    return steps


def _lost(row: JobRow, data_folder: Path) -> writes.Ended:
    output = data_folder / "workspaces" / str(row.workspace_id) / "jobs" / f"{row.number}.out"
    tail = last_lines_of(output)
    failure = Failure(
        code="lost",
        message="The job was lost because the server ended while it ran, and its worker with it. It was not run again.",
        detail={"signal": "SIGKILL", "exit_code": None, "last_output": tail},
    )
    kind = JobKind(row.kind)
    outcome = Outcome(
        state=JobState.LOST,
        result=kind.no_result,
        error=msgspec.json.encode(failure),
        detail=msgspec.json.encode({"stdout": tail, "stderr": ""}) if kind == JobKind.SCRIPT else None,
    )
    return writes.Ended(row.pk, kind, outcome)
