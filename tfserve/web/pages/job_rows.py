"""Reads jobs for the pages: few queries, and only the part of a large value that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.db.models import Case, F, Q, QuerySet, TextField, Value, When
from django.db.models.functions import Length, Substr
from django.utils import timezone

from tfserve.db.models import Job, ModelJob, Outcome, TrainingTask, Workspace
from tfserve.errors import Failure, NotFound
from tfserve.ipc.messages import ACTIVE, FINISHED, MODEL_KINDS, JobKind, JobState
from tfserve.model_job_files import KEPT_REQUEST_BYTES
from tfserve.web.pages.job_names import BEGINNING_CHARS, job_name, member
from tfserve.web.pages.listing import fitted
from tfserve.web.pages.page_rows import TaskRow

PER_PAGE = 40
SHOWN_CHARS, SHOWN_BYTES = 20_000, 10_000
"""How much of a text is read, and how much of it the page shows."""
REQUEST_CHARS = 1_000_000
"""Larger requests are not parsed. Only their beginning is shown, as JSON."""
FAILURE_CHARS = 4000
"""How much of an error is read for a row of a list."""
SEARCHED_CHARS = 400
"""How much of a request and of an error is searched."""
REPEATABLE = (JobKind.SCRIPT, JobKind.CLEAR, JobKind.DEPLOY, JobKind.UPDATE, JobKind.UNDEPLOY, *MODEL_KINDS)
"""Kinds whose stored request is enough to submit it again."""
STATES = {"active": ACTIVE, "failed": (JobState.FAILED, JobState.LOST), "succeeded": (JobState.SUCCEEDED,),
          "cancelled": (JobState.CANCELLED,)}  # fmt: skip
"""Values of the state filter."""


@dataclass(frozen=True)
class JobFilter:
    """Which jobs a list shows. `before` and `after` are ids: the page begins with the next older, or newer, job."""

    text: str = ""
    state: str = ""
    kind: str = ""
    workspace: str = ""
    before: int | None = None
    after: int | None = None


@dataclass(frozen=True)
class JobRow:
    """A job in a list."""

    job: Job
    failure: Failure | None

    @property
    def name(self) -> str:
        task = self.task
        return job_name(self.job.kind, self.beginning, None if task is None else task.project_dir)

    @property
    def beginning(self) -> str | None:
        """The beginning of the request, as annotated by `_named`."""
        return getattr(self.job, "beginning", None)

    @property
    def task(self) -> TrainingTask | None:
        """The training that this run belongs to, if it is its current one."""
        return getattr(self.job, "task", None)

    @property
    def model_job(self) -> ModelJob | None:
        """What only deferred predictions and batches have."""
        return getattr(self.job, "model_job", None)

    @property
    def is_active(self) -> bool:
        return self.job.state in ACTIVE

    @property
    def can_repeat(self) -> bool:
        is_kept = self.model_job is None or self.model_job.size <= KEPT_REQUEST_BYTES
        return self.job.state in FINISHED and self.job.kind in REPEATABLE and self.beginning is not None and is_kept

    @property
    def can_resume(self) -> bool:
        """Whether it is a batch that ended before its last row."""
        return self.job.kind == JobKind.BATCH and self.job.state in FINISHED and self.job.state != JobState.SUCCEEDED


@dataclass(frozen=True)
class JobList:
    """One page of jobs, newest first. `newer` and `older` are the ids for links to the pages next to it."""

    rows: list[JobRow]
    newer: int | None
    older: int | None


@dataclass(frozen=True)
class Excerpt:
    """The beginning of a text, and how many characters were left out."""

    text: str
    left_out: int

    @classmethod
    def of(cls, text: str, size: int) -> Excerpt:
        """`text` may be the beginning of a text of `size` characters."""
        shown = fitted(text, SHOWN_BYTES)
        return cls(shown, size - len(shown))


@dataclass(frozen=True)
class JobPage:
    """The contents of the page of one job."""

    job: Job
    row: JobRow
    #: the fields of the request, without a script's text
    request: dict[str, Any]
    #: the training task, if the job is a run of one
    task: TaskRow | None
    script: Excerpt | None
    #: a request that was not parsed, as JSON
    raw_request: Excerpt | None
    result: Excerpt | None
    failure: Failure | None
    #: the details of the response
    detail: dict[str, Any]

    @property
    def is_finished(self) -> bool:
        return self.job.state in FINISHED


# --- lists


def job_list(chosen: JobFilter, size: int = PER_PAGE) -> JobList:
    """One page, read by key: its cost does not depend on how far back it is."""
    found = _filtered(Job.objects.all(), chosen)
    if chosen.after is not None:
        ids = _ids(found.filter(pk__gt=chosen.after).order_by("pk"), size)
        has_newer, has_older = len(ids) > size, True
        ids = ids[:size][::-1]
    else:
        older = found if chosen.before is None else found.filter(pk__lt=chosen.before)
        ids = _ids(older.order_by("-pk"), size)
        has_newer, has_older = chosen.before is not None, len(ids) > size
        ids = ids[:size]
    return JobList(
        rows=_rows(_named(Job.objects.filter(pk__in=ids)).order_by("-pk")),
        newer=ids[0] if ids and has_newer else None,
        older=ids[-1] if ids and has_older else None,
    )


def _ids(jobs: QuerySet[Job], size: int) -> list[int]:
    """The ids of one page and of one more job. Rows with all that is shown are read only for these."""
    return list(jobs.values_list("pk", flat=True)[: size + 1])


def active_jobs(workspaces: Sequence[str], size: int) -> list[JobRow]:
    """Jobs of these workspaces that run or wait, in the order in which they were submitted."""
    return _rows(_named(Job.objects.filter(workspace__name__in=workspaces, state__in=ACTIVE)).order_by("pk")[:size])


def active_model_jobs(size: int) -> tuple[list[JobRow], int]:
    """The oldest deferred predictions and batches that run or wait, and their number."""
    found = Job.objects.filter(workspace=None, state__in=ACTIVE, kind__in=MODEL_KINDS)
    return _rows(_named(found).order_by("pk")[:size]), found.count()


def recent_jobs(workspace_id: int, newest: int, size: int) -> list[JobRow]:
    """The jobs of a workspace that have ended, from the one with the number `newest` backwards."""
    found = Job.objects.filter(workspace=workspace_id, number__lte=newest, number__gt=newest - 2 * size)
    return _rows(_named(found.filter(state__in=FINISHED)).order_by("-number")[:size])


def failures_since(hours: float, size: int) -> tuple[list[JobRow], int]:
    """The newest jobs that failed or were lost in the last hours, and their number."""
    since: datetime = timezone.now() - timedelta(hours=hours)
    failed = Job.objects.filter(state__in=STATES["failed"], finished_at__gte=since)
    ids = list(failed.order_by("-pk").values_list("pk", flat=True))
    return _rows(_named(Job.objects.filter(pk__in=ids[:size])).order_by("-pk")), len(ids)


def _rows(jobs: Sequence[Job] | QuerySet[Job]) -> list[JobRow]:
    return [JobRow(job, _failure_in_list(getattr(job, "failure", None))) for job in jobs]


def _failure_in_list(beginning: str | None) -> Failure | None:
    """What a list shows of an error, whose traceback may be very long."""
    if beginning is None or len(beginning) < FAILURE_CHARS:
        return _failure(beginning)
    return Failure(member(beginning, "code"), member(beginning, "message"), member(beginning, "type") or None)


def _named(jobs: QuerySet[Job]) -> QuerySet[Job]:
    """With what a row of a list shows."""
    return (
        jobs.select_related("workspace", "task", "model_job")
        .annotate(
            beginning=Substr("request", 1, BEGINNING_CHARS), failure=Substr("outcome__error", 1, FAILURE_CHARS)
        )
        .only(
            "number", "kind", "state", "created_at", "started_at", "finished_at", "time_limit_s", "attempts",
            "workspace__name", "task__task_id", "task__project_dir",
            "model_job__model", "model_job__progress", "model_job__size",
        )
    )  # fmt: skip


def _filtered(jobs: QuerySet[Job], chosen: JobFilter) -> QuerySet[Job]:
    if chosen.state in STATES:
        jobs = jobs.filter(state__in=STATES[chosen.state])
    if chosen.kind:
        jobs = jobs.filter(kind=chosen.kind)
    if chosen.workspace:
        jobs = jobs.filter(workspace__name=chosen.workspace)
    if chosen.text:
        jobs = _matching(jobs, chosen.text)
    return jobs


def _matching(jobs: QuerySet[Job], text: str) -> QuerySet[Job]:
    """Jobs with the text in what a row of a list shows: the name, the workspace, the error, the training's folder.

    Each table is searched once, because joining them for every job takes three times as long.
    """
    escaped = msgspec.json.encode(text).decode()[1:-1]
    failures = Outcome.objects.filter(error__isnull=False).annotate(beginning=Substr("error", 1, SEARCHED_CHARS))
    tasks = TrainingTask.objects.filter(project_dir__icontains=text)
    of_models = ModelJob.objects.filter(model__icontains=text)
    return jobs.annotate(searched=Substr("request", 1, SEARCHED_CHARS)).filter(
        Q(kind=text.lower())
        | Q(workspace__in=Workspace.objects.filter(name__icontains=text).values("pk"))
        | Q(pk__in=tasks.values("job"))
        | Q(pk__in=of_models.values("pk"))
        | Q(pk__in=failures.filter(beginning__icontains=escaped).values("pk"))
        | Q(searched__icontains=escaped)
    )


# --- one job


def job_page(job_id: int) -> JobPage:
    """Raises `NotFound`."""
    job = _named(Job.objects.filter(pk=job_id)).first()
    if job is None:
        raise NotFound(f"Job {job_id} was not found: it never existed, or was deleted because of its age.")
    texts = _texts(job_id)
    script, request, raw = _request(job.kind, texts["request_text"], texts["request_size"])
    failure = _failure(texts["error"])
    return JobPage(
        job=job,
        row=JobRow(job, failure),
        request=request,
        task=_task_of(job),
        script=script,
        raw_request=raw,
        result=Excerpt.of(texts["result"], texts["result_size"]) if texts["result"] is not None else None,
        failure=failure,
        detail=msgspec.json.decode(texts["detail"] or "{}"),
    )


def _task_of(job: Job) -> TaskRow | None:
    task = TrainingTask.objects.filter(job=job).select_related("job").first() if job.kind == JobKind.TRAIN else None
    return None if task is None else TaskRow(task)


def _texts(job_id: int) -> dict[str, Any]:
    """The job's values, truncated by the database, because predictions may be very large."""
    detail = Case(
        When(kind=JobKind.SCRIPT, then=Value(None)),  # the job's output, which the page shows anyway
        default=F("outcome__detail"),
        output_field=TextField(),
    )
    texts = Job.objects.values(
        request_text=Substr("request", 1, REQUEST_CHARS),
        request_size=Length("request"),
        result=Substr("outcome__result", 1, SHOWN_CHARS),
        result_size=Length("outcome__result"),
        error=F("outcome__error"),
        detail=detail,
    ).get(pk=job_id)
    return dict(texts)


def _request(kind: str, text: str | None, size: int) -> tuple[Excerpt | None, dict[str, Any], Excerpt | None]:
    """A script's text, the other fields of the request, and the request as JSON if it was not parsed."""
    if text is None:
        return None, {}, None
    if kind == JobKind.PREDICT or size > len(text):
        return None, {}, Excerpt.of(text, size)
    fields: dict[str, Any] = msgspec.json.decode(text)
    script = fields.pop("text", None)
    return None if script is None else Excerpt.of(script, len(script)), fields, None


def _failure(error: str | None) -> Failure | None:
    return None if error is None else msgspec.json.decode(error, type=Failure)
