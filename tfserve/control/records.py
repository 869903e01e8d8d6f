"""The writes, as the supervisor's journal makes them: each function runs inside a transaction of the journal's.

Nothing here waits, reads the clock twice for one group, or knows a process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

from django.db.models import F, QuerySet
from django.utils import timezone

from tfserve.control.models import FINISHED, Deployment, Job, Outcome, Snapshot, Workspace
from tfserve.errors import IdempotencyKeyReused
from tfserve.ipc.messages import JobKind, JobState


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job to be. `started` when the workspace was idle, so that it runs as soon as it is durable."""

    workspace_id: int
    workspace_name: str
    kind: JobKind
    request: bytes
    time_limit_s: float | None = None
    idempotency_key: str | None = None
    started: bool = False

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.kind.encode() + b"\n" + self.request).hexdigest()


@dataclass(frozen=True)
class Recorded:
    """Where a submission went. `is_new` is false when its idempotency key was known."""

    id: int
    number: int
    state: JobState
    is_new: bool = True

    @property
    def is_started(self) -> bool:
        return self.state == JobState.RUNNING


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a job ended; the fields are JSON text."""

    job_id: int
    kind: JobKind
    state: JobState
    result: bytes | None = None
    error: bytes | None = None
    detail: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One step of a queue: some jobs have ended, some go back to be repeated, the next have begun."""

    workspace_id: int
    ended: Sequence[Ended] = ()
    requeued: Sequence[int] = ()
    started: Sequence[int] = ()
    #: what the last script left, None when nothing about the variables changed
    variables: bytes | None = None


@dataclass
class Saved:
    """What a workspace was when the server stopped, to go on from."""

    workspace: Workspace
    waiting: list[Job] = field(default_factory=list)
    running: list[Job] = field(default_factory=list)
    deployment: Deployment | None = None
    last_started: int = -1
    last_finished: int = -1
    kept: int = 0
    last_version: int = 0


def submit(submissions: Sequence[Submission]) -> list[Recorded | IdempotencyKeyReused]:
    """Records new jobs, each with the next number of its workspace."""
    now = timezone.now()
    answers: list[Recorded | IdempotencyKeyReused | Job] = []
    for workspace_id, group in groupby(submissions, key=lambda each: each.workspace_id):
        answers += _submit_to(workspace_id, list(group), now)
    jobs = [each for each in answers if isinstance(each, Job)]
    Job.objects.bulk_create(jobs)
    return [_recorded(each) if isinstance(each, Job) else each for each in answers]


def _submit_to(
    workspace_id: int, submissions: list[Submission], now: datetime
) -> list[Recorded | IdempotencyKeyReused | Job]:
    number = first = Workspace.objects.values_list("next_number", flat=True).get(pk=workspace_id)
    answers: list[Recorded | IdempotencyKeyReused | Job] = []
    by_key: dict[str, Job] = {}
    for each in submissions:
        known = _known(each, by_key)
        if known is not None:
            answers.append(known)
            continue
        job = _new_job(each, number, now)
        number += 1
        if each.idempotency_key:
            # Saved at once, so that a second one with this key in the same group finds its id.
            job.save(force_insert=True)
            by_key[each.idempotency_key] = job
            answers.append(_recorded(job))
        else:
            answers.append(job)
    Workspace.objects.filter(pk=workspace_id).update(next_number=F("next_number") + (number - first))
    return answers


def _known(submission: Submission, by_key: dict[str, Job]) -> Recorded | IdempotencyKeyReused | None:
    key = submission.idempotency_key
    if not key:
        return None
    job = by_key.get(key) or Job.objects.filter(workspace_id=submission.workspace_id, idempotency_key=key).first()
    if job is None:
        return None
    if job.request_digest != submission.digest:
        return IdempotencyKeyReused(key=key, name=submission.workspace_name, job=job.number)
    return _recorded(job, is_new=False)


def _recorded(job: Job, *, is_new: bool = True) -> Recorded:
    return Recorded(job.pk, job.number, JobState(job.state), is_new)


def _new_job(submission: Submission, number: int, now: datetime) -> Job:
    return Job(
        workspace_id=submission.workspace_id,
        number=number,
        kind=submission.kind,
        state=JobState.RUNNING if submission.started else JobState.QUEUED,
        request=submission.request.decode(),
        time_limit_s=submission.time_limit_s,
        idempotency_key=submission.idempotency_key,
        request_digest=submission.digest if submission.idempotency_key else None,
        attempts=1 if submission.started else 0,
        created_at=now,
        started_at=now if submission.started else None,
    )


def take_turns(turns: Iterable[Turn]) -> None:
    """Records what several queues have done since the last commit."""
    now = timezone.now()
    turns = list(turns)
    _end([each for turn in turns for each in turn.ended], now)
    requeued = [job_id for turn in turns for job_id in turn.requeued]
    if requeued:
        Job.objects.filter(pk__in=requeued).update(state=JobState.QUEUED, started_at=None)
    started = [job_id for turn in turns for job_id in turn.started]
    if started:
        Job.objects.filter(pk__in=started).update(state=JobState.RUNNING, started_at=now, attempts=F("attempts") + 1)
    _keep_variables({turn.workspace_id: turn.variables for turn in turns if turn.variables is not None})


def _end(ended: Sequence[Ended], now: datetime) -> None:
    Outcome.objects.bulk_create(
        Outcome(job_id=each.job_id, result=_text(each.result), error=_text(each.error), detail=_text(each.detail))
        for each in ended
    )
    groups: dict[tuple[JobState, bool], list[int]] = {}
    for each in ended:
        groups.setdefault((each.state, each.kind == JobKind.PREDICT), []).append(each.job_id)
    for (state, is_prediction), ids in groups.items():
        forgotten = {"request": None} if is_prediction else {}
        Job.objects.filter(pk__in=ids).update(state=state, finished_at=now, **forgotten)


def _keep_variables(variables: dict[int, bytes]) -> None:
    if variables:
        Snapshot.objects.bulk_create(
            [Snapshot(workspace_id=key, variables=value.decode()) for key, value in variables.items()],
            update_conflicts=True,
            unique_fields=["workspace"],
            update_fields=["variables"],
        )


def create_workspace(name: str, type_: int) -> Workspace:
    return Workspace.objects.create(name=name, type=type_)


def destroy_workspace(workspace_id: int) -> None:
    Workspace.objects.filter(pk=workspace_id).delete()


def prune(workspace_id: int, *, keep_jobs: int, keep_days: int) -> list[int]:
    """Forgets finished jobs beyond the newest `keep_jobs` or older than `keep_days`; returns their numbers."""
    finished = Job.objects.filter(workspace_id=workspace_id, state__in=FINISHED)
    kept = finished.order_by("-number").values_list("number", flat=True)[keep_jobs : keep_jobs + 1].first()
    oldest = timezone.now() - timedelta(days=keep_days)
    numbers = set(finished.filter(finished_at__lt=oldest).values_list("number", flat=True))
    if kept is not None:
        numbers |= set(finished.filter(number__lte=kept).values_list("number", flat=True))
    Job.objects.filter(workspace_id=workspace_id, number__in=numbers).delete()
    return sorted(numbers)


def begin_deployment(workspace_id: int, path: str, weights: str | None, device: str) -> int:
    return Deployment.objects.create(workspace_id=workspace_id, path=path, weights=weights, device=device).pk


def activate_deployment(
    deployment_id: int, *, version: int, format_: str, signatures: dict[str, object], replaces: int | None
) -> None:
    """The new one serves from now on, and the one before does no longer."""
    Deployment.objects.filter(pk=deployment_id).update(
        state=Deployment.State.ACTIVE, version=version, format=format_, signatures=signatures
    )
    if replaces is not None:
        end_deployment(replaces, Deployment.State.GONE, "replaced")


def end_deployment(deployment_id: int, state: Deployment.State, reason: str) -> None:
    Deployment.objects.filter(pk=deployment_id).update(state=state, reason=reason)


def load_all() -> list[Saved]:
    """Everything that the supervisor has to go on with after a start."""
    Deployment.objects.filter(state=Deployment.State.LOADING).update(
        state=Deployment.State.GONE, reason="the server stopped while it was loading"
    )
    return [_load(workspace) for workspace in Workspace.objects.order_by("pk")]


def _load(workspace: Workspace) -> Saved:
    jobs = workspace.jobs.order_by("number")
    finished = jobs.filter(state__in=FINISHED)
    deployments = workspace.deployments.order_by("pk")
    versions = deployments.exclude(version=None).values_list("version", flat=True)
    return Saved(
        workspace=workspace,
        waiting=list(jobs.filter(state=JobState.QUEUED)),
        running=list(jobs.filter(state=JobState.RUNNING)),
        deployment=deployments.filter(state=Deployment.State.ACTIVE).last(),
        last_started=_last_number(jobs.filter(attempts__gt=0)),
        last_finished=_last_number(finished.filter(attempts__gt=0)),
        kept=finished.count(),
        last_version=versions.last() or 0,
    )


def _last_number(jobs: QuerySet[Job]) -> int:
    number = jobs.values_list("number", flat=True).last()
    return -1 if number is None else number


def _text(json: bytes | None) -> str | None:
    return None if json is None else json.decode()
