"""Jobs, workspaces and the server: what web asks the supervisor."""

from __future__ import annotations

from tfserve.ipc.messages.base import Base, JobKind, JobState
from tfserve.ipc.metrics import Deaths, NamedCounts, ProcessUse, TrainingCounts, WebCounts, WorkspaceCounts


class WebReady(Base):
    """The web process accepts connections."""


class GetServer(Base):
    """Answered by Done(dict): all that the status page shows of the living server."""


class GetMetrics(Base):
    """Answered by Metrics."""


class Metrics(Base):
    """All that is counted and measured of the living server; `started_at` is a Unix time in seconds."""

    version: str
    started_at: float
    models: list[NamedCounts]
    http_errors: dict[str, dict[str, int]]
    workspaces: list[WorkspaceCounts]
    trainings: TrainingCounts
    processes: list[ProcessUse]
    deaths: list[Deaths]


class IsReady(Base):
    """Answered by Done(bool): whether the server takes work."""


class ListWorkspaces(Base):
    """Answered by Done(list): the names of all workspaces."""


class TurnService(Base):
    """Turns the workspace service on or off. Answered by Done(bool): whether that changed anything."""

    on: bool


class CreateWorkspace(Base):
    """Answered by Done(name)."""

    name: str | None = None
    type: int = 0


class DestroyWorkspace(Base):
    """Destroys one workspace, or all. Answered by Done(bool)."""

    name: str | None = None


class RestartWorkspace(Base):
    """Gives a workspace a fresh process. Answered by Done(True)."""

    name: str


class GetWorkspace(Base):
    """Answered by Done(dict): the live status of one workspace."""

    name: str


class SubmitJob(Base):
    """Puts a job in a workspace's queue and waits up to `wait_s` for its end. Answered by JobAnswer."""

    workspace: str
    kind: JobKind
    request: bytes
    wait_s: float = 0.0
    time_limit_s: float | None = None
    idempotency_key: str | None = None


class JobAnswer(Base):
    """What is known of a job when the wait for it is over."""

    job: int
    id: int
    kind: JobKind
    state: JobState
    waited_s: float
    result: bytes | None = None
    error: bytes | None = None
    detail: bytes | None = None
    variables: bytes | None = None


class CancelJob(Base):
    """Ends a job. Answered by JobAnswer when it has ended, by Done when it neither waits nor runs."""

    workspace: str
    job: int


class GetVariables(Base):
    """Answered by Variables: full values from the live worker while it is idle, else from the snapshot."""

    workspace: str
    names: list[str] | None = None


class WaitOutput(Base):
    """Answered by Done(bool: has the job ended) when the job's output reaches beyond `offset`, or it has ended."""

    job_id: int
    offset: int
    wait_s: float


class WaitChange(Base):
    """Answered by Done(int: the newest revision) when anything has changed since revision `since`."""

    since: int
    wait_s: float


class ReadStatistics(Base):
    """The supervisor asks each web process for what it has counted. Answered by Statistics."""


class Statistics(Base):
    """Only grows, while the models stay."""

    counts: WebCounts
