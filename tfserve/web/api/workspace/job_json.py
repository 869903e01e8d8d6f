"""Jobs as JSON, and the types of results for the OpenAPI document. Results stay JSON text, without parsing."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from tfserve.db.job_json import encoded, raw
from tfserve.db.models import Job
from tfserve.errors import Failure
from tfserve.ipc.messages import FINISHED, JobKind, JobState, JobStatus, NodeStatus, Outcome


def job_result(status: JobStatus) -> dict[str, Any]:
    """The response to a request that submitted a job."""
    outcome = status.outcome or Outcome(state=status.state)
    result: dict[str, Any] = {
        "job": status.job,
        "id": status.id,
        "state": status.state,
        "finish": status.state in FINISHED,
        "result": raw(outcome.result),
        "time": round(status.waited_s, 6),
    }
    if status.kind == JobKind.SCRIPT:
        result |= {"variable": raw(outcome.variables or b"{}"), "stdout": "", "stderr": ""}
    if outcome.error is not None:
        result["error"] = raw(outcome.error)
    if outcome.detail is not None:
        result |= msgspec.json.decode(outcome.detail, type=dict[str, msgspec.Raw])
    return result


def job_status(job: Job, variables: str | None) -> JobStatus:
    """A job that had ended before the request, with the variables of its workspace."""
    row, state = getattr(job, "outcome", None), JobState(job.state)
    outcome = row and Outcome(
        state=state, result=encoded(row.result), error=encoded(row.error), detail=encoded(row.detail),
        variables=encoded(variables),
    )  # fmt: skip
    return JobStatus(job=job.number, id=job.pk, kind=JobKind(job.kind), state=state, outcome=outcome)


def result_of(job: Job) -> msgspec.Raw:
    """null while the job is running."""
    outcome = getattr(job, "outcome", None)
    return raw(encoded(outcome and outcome.result))


# --- types for the OpenAPI document, and for the test that checks responses against it


class JobResult(msgspec.Struct, kw_only=True):
    """A job after waiting for it."""

    job: int
    id: int
    state: JobState
    finish: bool
    result: Any
    time: float
    error: Failure | msgspec.UnsetType = msgspec.UNSET


class ScriptResult(JobResult, kw_only=True):
    """A script job, with its output and variables."""

    variable: dict[str, Any]
    stdout: str
    stderr: str


class DeployResult(JobResult, kw_only=True):
    version: int | msgspec.UnsetType = msgspec.UNSET
    format: str | msgspec.UnsetType = msgspec.UNSET
    warm_up: str | msgspec.UnsetType = msgspec.UNSET
    remarks: list[str] | msgspec.UnsetType = msgspec.UNSET
    signatures: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class UndeployResult(JobResult, kw_only=True):
    version: int | msgspec.UnsetType = msgspec.UNSET
    memory_freed_bytes: int | msgspec.UnsetType = msgspec.UNSET


class Status(msgspec.Struct, kw_only=True):
    """The state of a workspace."""

    STATUS: Literal["INITIAL", "IDLE", "BUSY", "EXCEPT"]
    CUR_JOB_NUM: int
    FIN_JOB_NUM: int
    JOB_COUNT: int
    name: str
    type: int
    state: str
    reason: str | None
    folder: str
    pid: int | None
    memory_bytes: int
    uptime_s: float
    deaths_in_a_row: int
    deployment: dict[str, Any] | None
    last_deployment_failure: str | None
    running: list[dict[str, Any]]
    limits: dict[str, Any]
    resources: dict[str, Any]
    node: str | None
    """The node of the process of its scripts."""


class JobRow(msgspec.Struct, kw_only=True):
    """A job in a list, without its values."""

    id: int
    workspace: str | None
    """null for a job of a model."""
    job: int
    kind: JobKind
    state: JobState
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    time_limit: float | None
    error: Failure | None


class JobDetail(JobRow, kw_only=True):
    """A job. Only deferred predictions and batches have a model, and only batches have progress."""

    attempts: int
    request: Any
    result: Any
    detail: dict[str, Any] | None
    model: str | msgspec.UnsetType = msgspec.UNSET
    done: int | msgspec.UnsetType = msgspec.UNSET
    total: int | msgspec.UnsetType | None = msgspec.UNSET
    errors: int | msgspec.UnsetType = msgspec.UNSET
    output_bytes: int | msgspec.UnsetType = msgspec.UNSET
    rows_per_s: float | msgspec.UnsetType = msgspec.UNSET
    time_left_s: float | msgspec.UnsetType | None = msgspec.UNSET
    callback: CallbackStatus | msgspec.UnsetType = msgspec.UNSET


class CallbackStatus(msgspec.Struct, kw_only=True):
    """How the delivery of a callback goes."""

    url: str
    state: str
    attempts: int
    last_status: int | None
    last_error: str | msgspec.UnsetType = msgspec.UNSET


class DeferredJob(msgspec.Struct, kw_only=True):
    """The job of a prediction that was sent with `Prefer: respond-async`. `location` is its path."""

    job: int
    id: int
    state: JobState
    location: str


class JobList(msgspec.Struct, kw_only=True):
    """One page of jobs. `total` counts those on all pages."""

    jobs: list[JobRow]
    total: int


class ServerStatus(msgspec.Struct, kw_only=True):
    """The live state of the server. `revision` increases with every change."""

    version: str
    pid: int
    ready: bool
    degraded: str | None
    on: bool
    started_at: float
    revision: int
    spare: dict[str, int] | None
    light_spare: dict[str, int] | None
    memory_bytes: int
    data_dir: str
    roots: list[str]
    totals: dict[str, int]
    workspaces: list[Status]
    nodes: list[NodeStatus] | msgspec.UnsetType = msgspec.UNSET
    declared: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class CancelResult(msgspec.Struct, kw_only=True):
    """A job that has ended. `cancelled` is true if this request ended it."""

    job: int
    id: int
    state: JobState
    cancelled: bool
