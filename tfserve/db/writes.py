"""The writes, as the supervisor's journal makes them: each function runs inside a transaction of the journal's.

Nothing here waits, reads the clock twice for one group, or knows a process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, QuerySet
from django.utils import timezone

from tfserve.db import callbacks, running_time, sql
from tfserve.db.models import Declared, Deployment, Job, Workspace
from tfserve.errors import IdempotencyKeyReused, NoSuchWorkspace, TFserveError
from tfserve.ipc.messages import FINISHED, JobKind, JobState, Outcome, SubmitJob


@dataclass(frozen=True)
class Submission:
    """A new job of a workspace. `started` if the workspace was idle, so that it runs as soon as it is durable."""

    workspace_id: int
    job: SubmitJob
    started: bool = False

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.job.request.kind.encode() + b"\n" + self.job.request.json).hexdigest()


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


@dataclass(frozen=True)
class Ended:
    """A job that has ended."""

    job_id: int
    kind: JobKind
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class QueueStep:
    """A change of a queue: jobs that ended, jobs that return to the queue, jobs that start."""

    workspace_id: int
    ended: Sequence[Ended] = ()
    requeued: Sequence[int] = ()
    #: return to the queue without counting as an attempt
    put_aside: Sequence[int] = ()
    started: Sequence[int] = ()
    #: of the last script, and their types; None if they are unchanged
    variables: tuple[bytes, bytes] | None = None


@dataclass
class Saved:
    """The state of a workspace when the server stopped."""

    workspace: Workspace
    waiting: list[Job] = field(default_factory=list)
    running: list[Job] = field(default_factory=list)
    deployment: Deployment | None = None
    last_started: int = -1
    last_finished: int = -1
    kept: int = 0
    last_version: int = 0


def submit(submissions: Sequence[Submission]) -> list[Recorded | TFserveError]:
    """Records new jobs, each with the next number of its workspace. An error for each that can't be recorded."""
    now = timezone.now()
    numbers: dict[int, int] = {}
    by_key: dict[tuple[int, str], Job] = {}
    answers = [_submit(each, numbers, by_key, now) for each in submissions]
    for workspace_id, number in numbers.items():
        sql.set_next_number(workspace_id, number)
    return answers


def known(submission: Submission) -> Recorded | None:
    """The job that was submitted with this key before. Raises `IdempotencyKeyReused`."""
    found = _known(submission, {})
    if isinstance(found, TFserveError):
        raise found
    return found


def _submit(
    submission: Submission, numbers: dict[int, int], by_key: dict[tuple[int, str], Job], now: datetime
) -> Recorded | TFserveError:
    workspace_id = submission.workspace_id
    known = _known(submission, by_key)
    if known is not None:
        return known
    number = numbers.get(workspace_id) or sql.next_number(workspace_id)
    if number is None:
        return NoSuchWorkspace(submission.job.workspace)
    job = _new_job(submission, number, now)
    sql.insert_job(job)
    if submission.job.callback is not None:
        callbacks.create(job.pk, submission.job.callback, submission.job.owner)
    numbers[workspace_id] = number + 1
    if submission.job.idempotency_key:
        by_key[workspace_id, submission.job.idempotency_key] = job
    return _recorded(job)


def _known(submission: Submission, by_key: dict[tuple[int, str], Job]) -> Recorded | IdempotencyKeyReused | None:
    """The job that was submitted with this key before, in this group or earlier."""
    key, workspace_id = submission.job.idempotency_key, submission.workspace_id
    if not key:
        return None
    job = by_key.get((workspace_id, key))
    job = job or Job.objects.filter(workspace_id=workspace_id, idempotency_key=key).first()
    if job is None:
        return None
    if job.request_digest != submission.digest:
        return IdempotencyKeyReused(key=key, name=submission.job.workspace, job=job.number)
    return _recorded(job, is_new=False)


def _recorded(job: Job, *, is_new: bool = True) -> Recorded:
    return Recorded(job.pk, job.number, JobState(job.state), is_new)


def _new_job(submission: Submission, number: int, now: datetime) -> Job:
    return Job(
        workspace_id=submission.workspace_id,
        number=number,
        kind=submission.job.request.kind,
        state=JobState.RUNNING if submission.started else JobState.QUEUED,
        request=submission.job.request.json.decode(),
        time_limit_s=submission.job.time_limit_s,
        idempotency_key=submission.job.idempotency_key,
        request_digest=submission.digest if submission.job.idempotency_key else None,
        attempts=1 if submission.started else 0,
        created_at=now,
        started_at=now if submission.started else None,
        traceparent=submission.job.traceparent,
    )


def record_steps(steps: Iterable[QueueStep]) -> None:
    """Records the changes of several queues since the last commit."""
    now = timezone.now()
    steps = list(steps)
    _end([each for step in steps for each in step.ended], now)
    requeued = [job_id for step in steps for job_id in step.requeued]
    if requeued:
        Job.objects.filter(pk__in=requeued).update(state=JobState.QUEUED, started_at=None)
    put_aside = [job_id for step in steps for job_id in step.put_aside]
    if put_aside:
        back = {"state": JobState.QUEUED, "started_at": None, "attempts": F("attempts") - 1}
        Job.objects.filter(pk__in=put_aside, state=JobState.RUNNING).update(**back)
    sql.start_jobs([job_id for step in steps for job_id in step.started], now)
    sql.keep_variables({step.workspace_id: step.variables for step in steps if step.variables is not None})


def _end(ended: Sequence[Ended], now: datetime) -> None:
    sql.insert_outcomes([(each.job_id, *_columns(each.outcome)) for each in ended])
    for is_prediction in (True, False):
        ids = [(each.outcome.state, each.job_id) for each in ended if (each.kind == JobKind.PREDICT) is is_prediction]
        sql.finish_jobs(ids, now, forget_request=is_prediction)


def create_workspace(
    name: str, type_: int, limits: dict[str, Any] | None = None, resources: Mapping[str, Any] | None = None
) -> Workspace:
    return Workspace.objects.create(name=name, type=type_, limits=limits or {}, resources=dict(resources or {}))


def destroy_workspace(workspace_id: int) -> None:
    Workspace.objects.filter(pk=workspace_id).delete()


def prune(workspace_id: int, *, keep_jobs: int, keep_days: int) -> list[int]:
    """Forgets finished jobs beyond the newest `keep_jobs`, or that finished more than `keep_days` days of running time
    ago; returns their numbers."""
    running_time.save()
    finished = Job.objects.filter(workspace_id=workspace_id, state__in=FINISHED)
    kept = finished.order_by("-number").values_list("number", flat=True)[keep_jobs : keep_jobs + 1].first()
    oldest_s = running_time.now_s() - timedelta(days=keep_days).total_seconds()
    numbers = set(finished.filter(finished_running_s__lt=oldest_s).values_list("number", flat=True))
    if kept is not None:
        numbers |= set(finished.filter(number__lte=kept).values_list("number", flat=True))
    Job.objects.filter(workspace_id=workspace_id, number__in=numbers).delete()
    return sorted(numbers)


def begin_deployment(
    workspace_id: int,
    path: str,
    weights: str | None,
    device: str,
    options: dict[str, object],
    *,
    is_declared: bool = False,
) -> int:
    return Deployment.objects.create(
        workspace_id=workspace_id, path=path, weights=weights, device=device, options=options, declared=is_declared
    ).pk


def mark_as_declared(deployment_id: int) -> None:
    """Records that a deployment by a client is declared by now."""
    Deployment.objects.filter(pk=deployment_id).update(declared=True)


def keep_declarations(source: str, content: str) -> None:
    Declared.objects.update_or_create(source=source, defaults={"content": content})


def kept_declarations() -> dict[str, str]:
    """The last valid declarations of each source, as JSON."""
    return dict(Declared.objects.values_list("source", "content"))


def set_deployment_options(deployment_id: int, options: dict[str, object]) -> None:
    Deployment.objects.filter(pk=deployment_id).update(options=options)


def set_deployment_asleep(deployment_id: int, asleep: dict[str, object] | None) -> None:
    """Records that a deployment sleeps, or that it is awake (None)."""
    Deployment.objects.filter(pk=deployment_id).update(asleep=asleep)


def activate_deployment(
    deployment_id: int,
    *,
    version: int,
    format_: str,
    signatures: dict[str, object],
    remarks: list[str],
    replaces: int | None,
) -> None:
    """Records that a deployment serves, and that the one that it replaces does not any more."""
    Deployment.objects.filter(pk=deployment_id).update(
        state=Deployment.State.ACTIVE, version=version, format=format_, signatures=signatures, remarks=remarks
    )
    if replaces is not None:
        end_deployment(replaces, Deployment.State.GONE, "replaced")


def end_deployment(deployment_id: int, state: Deployment.State, reason: str) -> None:
    Deployment.objects.filter(pk=deployment_id).update(state=state, reason=reason)


def load_all() -> list[Saved]:
    """Everything that the supervisor restores at its start."""
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


def _columns(outcome: Outcome) -> tuple[str | None, str | None, str | None]:
    return _text(outcome.result), _text(outcome.error), _text(outcome.detail)


def _text(json: bytes | None) -> str | None:
    return None if json is None else json.decode()
