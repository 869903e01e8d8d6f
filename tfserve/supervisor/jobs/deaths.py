"""What the death of a worker or of the server means for the jobs that were running."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tfserve.db import writes
from tfserve.db.models import Job as JobRow
from tfserve.errors import Failure
from tfserve.ipc.messages import JobKind, JobState, Outcome
from tfserve.supervisor.jobs.job import REPEATABLE, STOPPED, Job, may_be_repeated
from tfserve.supervisor.processes.output import last_lines_of
from tfserve.supervisor.processes.worker import WorkerDied


def outcome_of_death(job: Job, death: WorkerDied, *, may_repeat: bool) -> Outcome | None:
    """How a job ends whose worker died; None if it returns to the queue."""
    if runs_after_restart(job):
        return None
    if job.ending is not None:
        return job.ended_by(job.ending)
    if may_repeat and death.exit.exceeded is None:
        return None
    return Outcome.failed(lost(death), state=JobState.LOST, result=job.no_result)


def runs_after_restart(job: Job) -> bool:
    """Whether a job that the stop of the server interrupts runs again when the server is back."""
    return job.ending is STOPPED and job.kind in REPEATABLE


def lost(death: WorkerDied) -> Failure:
    """The error of a job that was lost with its worker."""
    exit_ = death.exit
    exceeded = exit_.exceeded
    why = f"lost: {exceeded.sentence}" if exceeded else f"lost because its worker died: {exit_.sentence}"
    if exit_.lost is not None:
        why = exit_.sentence
    return Failure(
        code="lost",
        message=f"The job was {why}.",
        detail={
            **({"limit": {"name": exceeded.name, "used": exceeded.used, "limit": exceeded.limit}} if exceeded else {}),
            "signal": exit_.signal_name,
            "exit_code": exit_.code,
            "peak_memory_bytes": exit_.peak_memory_bytes,
            "last_output": death.last_lines,
        },
    )


def last_death(reason: str, death: WorkerDied) -> str:
    """Why something is given up after repeated deaths."""
    return f"{reason}; the last time {death}."


def end_interrupted(saved: list[writes.Saved], data_folder: Path) -> list[writes.QueueStep]:
    """What becomes of the jobs that were running when the server ended: queued again where that is safe, or lost."""
    steps = []
    for each in saved:
        again = [row for row in each.running if may_be_repeated(JobKind(row.kind), row.attempts)]
        gone = [row for row in each.running if row not in again]
        each.waiting[:0] = again
        if each.running:
            steps.append(
                writes.QueueStep(
                    workspace_id=each.workspace.pk,
                    ended=[_lost_with_server(row, data_folder) for row in gone],
                    requeued=[row.pk for row in again],
                )
            )
    return steps


def _lost_with_server(row: JobRow, data_folder: Path) -> writes.Ended:
    output = data_folder / "workspaces" / str(row.workspace_id) / "jobs" / f"{row.number}.out"
    tail = last_lines_of(output)
    kind = JobKind(row.kind)
    failure = Failure(
        code="lost",
        message="The job was lost because the server ended while it ran, and its worker with it. It was not run again.",
        detail={"signal": "SIGKILL", "exit_code": None, "last_output": tail},
    )
    outcome = Outcome(
        state=JobState.LOST,
        result=kind.no_result,
        error=msgspec.json.encode(failure),
        detail=msgspec.json.encode({"stdout": tail, "stderr": ""}) if kind == JobKind.SCRIPT else None,
    )
    return writes.Ended(row.pk, kind, outcome)
