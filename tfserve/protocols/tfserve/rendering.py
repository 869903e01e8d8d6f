"""Jobs as JSON. Results pass through as the text that the worker made; nothing is parsed that need not be."""

from __future__ import annotations

from typing import Any

import msgspec

from tfserve.control.models import FINISHED, Job
from tfserve.ipc.messages import JobAnswer, JobKind, JobState

NOTHING = msgspec.Raw(b"null")


def job_result(answer: JobAnswer) -> dict[str, Any]:
    """The answer to a call that submitted a job."""
    finished = answer.state in FINISHED
    result: dict[str, Any] = {
        "job": answer.job,
        "id": answer.id,
        "state": answer.state,
        "finish": finished,
        "result": _raw(answer.result) if finished else NOTHING,
        "time": round(answer.waited_s, 6),
    }
    if answer.kind == JobKind.SCRIPT:
        result |= {"variable": _raw(answer.variables or b"{}"), "stdout": "", "stderr": ""}
    if answer.error is not None:
        result["error"] = _raw(answer.error)
    if answer.detail is not None:
        result |= msgspec.json.decode(answer.detail, type=dict[str, msgspec.Raw])
    return result


def answer_of_row(job: Job, variables: str | None) -> JobAnswer:
    """The same answer for a job that had ended before the call."""
    outcome = getattr(job, "outcome", None)
    return JobAnswer(
        job=job.number, id=job.pk, kind=JobKind(job.kind), state=JobState(job.state), waited_s=0.0,
        result=_bytes(outcome and outcome.result), error=_bytes(outcome and outcome.error),
        detail=_bytes(outcome and outcome.detail), variables=_bytes(variables),
    )  # fmt: skip


def job_row(job: Job) -> dict[str, Any]:
    """A job in a list: all but its values."""
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
        "error": _raw(_bytes(outcome and outcome.error)),
    }


def job_detail(job: Job) -> dict[str, Any]:
    """One job with everything that is kept of it."""
    outcome = getattr(job, "outcome", None)
    return job_row(job) | {
        "attempts": job.attempts,
        "request": _raw(_bytes(job.request)),
        "result": _raw(_bytes(outcome and outcome.result)),
        "detail": _raw(_bytes(outcome and outcome.detail)),
    }


def result_of(job: Job) -> msgspec.Raw:
    """null while it runs."""
    outcome = getattr(job, "outcome", None)
    return _raw(_bytes(outcome and outcome.result))


def _raw(json: bytes | None) -> msgspec.Raw:
    return NOTHING if json is None else msgspec.Raw(json)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
