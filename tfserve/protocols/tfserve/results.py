"""What the endpoints answer with, for the OpenAPI document and for the test that holds them to it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tfserve.errors import Failure
from tfserve.ipc.messages import JobState


class JobResult(msgspec.Struct, kw_only=True):
    """A job when the wait for it was over."""

    job: int
    id: int
    state: JobState
    finish: bool
    result: Any
    time: float
    error: Failure | msgspec.UnsetType = msgspec.UNSET


class ScriptResult(JobResult, kw_only=True):
    """A script job: also what it printed, and the variables that it left."""

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


class CancelResult(msgspec.Struct, kw_only=True):
    """A job that has ended; `cancelled` tells whether it was this call that ended it."""

    job: int
    id: int
    state: JobState
    cancelled: bool
