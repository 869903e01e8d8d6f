"""Jobs, workspaces, uploads and the server: what web asks the supervisor."""

from __future__ import annotations

from typing import Any

from tfserve.ipc.messages.base import JobKind, JobState, Message, Request
from tfserve.ipc.messages.cluster import NodeStatus
from tfserve.ipc.messages.job_requests import EncodedRequest, Outcome
from tfserve.ipc.messages.limits import Limits
from tfserve.ipc.messages.placement import NeededResources
from tfserve.ipc.messages.scripts import Variables
from tfserve.ipc.metrics import (
    Deaths,
    ModelJobCounts,
    ModelSample,
    NamedCounts,
    ProcessUse,
    TrainingCounts,
    WebCounts,
    WorkspaceCounts,
)

# --- the server


class WebReady(Message):
    """The web process accepts connections."""


class Ping(Request[None]):
    """The supervisor asks a web process whether its event loop still runs."""


class GetServer(Request[dict[str, Any]]):
    """The state of the running server and of its workspaces.

    With `active_limit`, at most that number of workspaces, and only those with jobs, a model or a problem.
    """

    active_limit: int | None = None


class IsReady(Request[bool]):
    """Whether the server accepts work."""


class SetService(Request[bool]):
    """Turns the workspace service on or off. Responds whether that changed anything."""

    on: bool


class WaitChange(Request[int]):
    """Responds with the newest revision, as soon as it differs from `since`."""

    since: int
    wait_s: float


class Metrics(Message):
    """All that is counted and measured of the running server; `started_at` is a Unix time in seconds."""

    version: str
    started_at: float
    models: list[NamedCounts]
    http_errors: dict[str, dict[str, int]]
    workspaces: list[WorkspaceCounts]
    trainings: TrainingCounts
    processes: list[ProcessUse]
    deaths: list[Deaths]
    model_jobs: list[ModelJobCounts] = []
    nodes: list[NodeStatus] = []


class GetMetrics(Request[Metrics]):
    """Of the whole server: the counters of all web processes are added up."""


class ModelHistory(Message):
    """The counters of the requested models over the last minutes, oldest first."""

    models: dict[str, list[ModelSample]]


class GetModelHistory(Request[ModelHistory]):
    """For the sparklines of pages. The supervisor takes samples for some minutes after each of these requests."""

    names: list[str]


class ReadCounters(Request[WebCounts]):
    """The supervisor asks each web process what it has counted. The counts only grow while the models stay."""


# --- workspaces


class ListWorkspaces(Request[list[str]]):
    """The names of all workspaces."""


class FoundWorkspaces(Message):
    """`counts` has the number of workspaces of each STATUS, before the filter by status; `total` after it."""

    on: bool
    total: int
    counts: dict[str, int]
    workspaces: list[dict[str, Any]]


class FindWorkspaces(Request[FoundWorkspaces]):
    """One page of the workspaces by name, with their status, without those of further versions of a model.

    `text` is a part of the name in any case, `status` a STATUS. Empty: all. After the last page comes the last page.
    `with_model`: those with a model, or whose last attempt to deploy one failed, also further versions of a model.
    """

    text: str = ""
    status: str = ""
    with_model: bool = False
    offset: int = 0
    limit: int = 100


class CreateWorkspace(Request[str]):
    """Responds with the name, which is random by default. A limit of 0 is that of the server."""

    name: str | None = None
    type: int = 0
    limits: Limits = Limits()
    resources: NeededResources = {}
    """What the process of its scripts needs."""


class DestroyWorkspace(Request[bool]):
    """Destroys one workspace, or all. Responds whether there was any."""

    name: str | None = None


class RestartWorkspace(Request[None]):
    """Gives a workspace a fresh process."""

    name: str


class GetWorkspace(Request[dict[str, Any]]):
    """The live status of one workspace."""

    name: str


class GetVariables(Request[Variables]):
    """Full values from the worker while it is idle; otherwise empty and incomplete, and the database has a snapshot."""

    workspace: str
    names: list[str] | None = None


# --- jobs


class JobStatus(Message):
    """A job, after waiting for it. `outcome` is None before it has ended, and if only the database has it."""

    job: int
    id: int
    kind: JobKind
    state: JobState
    waited_s: float = 0.0
    outcome: Outcome | None = None


class SubmitJob(Request[JobStatus]):
    """Puts a job in a workspace's queue and waits up to `wait_s` for its end."""

    workspace: str
    request: EncodedRequest
    wait_s: float = 0.0
    time_limit_s: float | None = None
    idempotency_key: str | None = None
    owner: str = ""
    """The principal for whose limit the job counts."""
    callback: str | None = None
    """The URL that receives the job as JSON when it has ended."""
    traceparent: str = ""
    """Of the request; empty without one."""


class CancelJob(Request[JobStatus | None]):
    """Responds when the job has ended; None if it is neither waiting nor running."""

    workspace: str
    job: int


class WaitJob(Request[None]):
    """Responds when the job has ended, or after `wait_s`."""

    job_id: int
    wait_s: float


class WaitOutput(Request[bool]):
    """Waits until the job's output reaches beyond `offset`, or it has ended. Responds whether it has ended."""

    job_id: int
    offset: int
    wait_s: float


# --- uploads


class DeleteUpload(Request[None]):
    """Remove an upload, unless it is in use."""

    id: str
