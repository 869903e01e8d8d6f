"""Jobs as JSON, as requests for jobs and callbacks return them. Results stay JSON text, without parsing."""

from __future__ import annotations

from typing import Any

import msgspec

from tfserve.db.models import Callback, Job, ModelJob
from tfserve.ipc.messages import FINISHED, JobKind

NOTHING = msgspec.Raw(b"null")


def job_row(job: Job) -> dict[str, Any]:
    """A job in a list, without its values."""
    outcome = getattr(job, "outcome", None)
    return {
        "id": job.pk,
        "workspace": None if job.workspace is None else job.workspace.name,
        "job": job.number,
        "kind": job.kind,
        "state": job.state,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "time_limit": job.time_limit_s,
        "error": raw(encoded(outcome and outcome.error)),
    }


def job_detail(job: Job) -> dict[str, Any]:
    """All details of one job."""
    outcome = getattr(job, "outcome", None)
    detail = {
        "attempts": job.attempts,
        "request": raw(encoded(job.request)),
        "result": raw(encoded(outcome and outcome.result)),
        "detail": raw(encoded(outcome and outcome.detail)),
    }
    return job_row(job) | detail | _of_model_job(job) | _of_callback(job)


def _of_model_job(job: Job) -> dict[str, Any]:
    """What only deferred predictions and batches have."""
    row: ModelJob | None = getattr(job, "model_job", None)
    if row is None:
        return {}
    return {"model": row.model, **(progress(row) if job.kind == JobKind.BATCH else {})}


def progress(row: ModelJob) -> dict[str, Any]:
    """How far a batch is. `total` and `time_left_s` are null until they are known."""
    done, total = row.progress.get("done", 0), row.progress.get("total")
    rows_per_s = row.progress.get("rows_per_s", 0.0)
    left_s = None if total is None or not rows_per_s else round((total - done) / rows_per_s, 1)
    return {
        "done": done,
        "total": total,
        "errors": row.progress.get("errors", 0),
        "output_bytes": row.progress.get("output_bytes", 0),
        "rows_per_s": rows_per_s,
        "time_left_s": None if row.job.state in FINISHED else left_s,
    }


def _of_callback(job: Job) -> dict[str, Any]:
    row: Callback | None = getattr(job, "callback", None)
    if row is None:
        return {}
    found = {"url": row.url, "state": row.state, "attempts": row.attempts, "last_status": row.last_status}
    return {"callback": found | ({"last_error": row.last_error} if row.last_error else {})}


def raw(json: bytes | None) -> msgspec.Raw:
    return NOTHING if json is None else msgspec.Raw(json)


def encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
