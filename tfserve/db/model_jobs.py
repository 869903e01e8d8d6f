"""Deferred predictions and batches as rows: how they are written and read."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

from django.utils import timezone

from tfserve.db import callbacks, running_time
from tfserve.db.models import Job, ModelJob
from tfserve.db.writes import Recorded
from tfserve.errors import IdempotencyKeyReused
from tfserve.ipc.messages import ACTIVE, FINISHED, MODEL_KINDS, JobState, SubmitModelJob


def submit(new: SubmitModelJob) -> Recorded:
    """Records a new job, or finds the one with its idempotency key. Raises `IdempotencyKeyReused`."""
    if (found := known(new)) is not None:
        return found
    job = Job.objects.create(
        number=0,
        kind=new.request.kind,
        request=new.request.json.decode(),
        idempotency_key=new.idempotency_key,
        request_digest=_digest(new) if new.idempotency_key else None,
        created_at=timezone.now(),
    )
    Job.objects.filter(pk=job.pk).update(number=job.pk)  # no queue numbers these jobs
    ModelJob.objects.create(job=job, owner=new.owner, model=new.model, folder=new.folder, size=new.size)
    if new.callback is not None:
        callbacks.create(job.pk, new.callback, new.owner)
    return Recorded(job.pk, job.pk, JobState.QUEUED)


def known(new: SubmitModelJob) -> Recorded | None:
    """The job that the same owner submitted with this key before. Raises `IdempotencyKeyReused`."""
    if not new.idempotency_key:
        return None
    jobs = Job.objects.filter(workspace=None, idempotency_key=new.idempotency_key, model_job__owner=new.owner)
    job = jobs.first()
    if job is None:
        return None
    if job.request_digest != _digest(new):
        raise IdempotencyKeyReused(key=new.idempotency_key, name=new.model, job=job.pk)
    return Recorded(job.pk, job.pk, JobState(job.state), is_new=False)


def unfinished() -> list[ModelJob]:
    """In the order of their submission."""
    return list(ModelJob.objects.select_related("job").filter(job__state__in=ACTIVE).order_by("job_id"))


def folders() -> set[str]:
    """The names of all folders that belong to a job."""
    return set(ModelJob.objects.values_list("folder", flat=True))


def save_progress(job_id: int, progress: dict[str, Any]) -> None:
    ModelJob.objects.filter(pk=job_id).update(progress=progress)


def interrupted(job_id: int, rows: int) -> int:
    """Counts a death under the job, when `rows` rows were done. Returns the deaths in a row without a further row."""
    job = ModelJob.objects.get(pk=job_id)
    job.fruitless = 0 if rows > job.reached else job.fruitless + 1
    job.reached = max(job.reached, rows)
    job.save(update_fields=["reached", "fruitless"])
    return job.fruitless


def prune(*, keep_jobs: int, keep_days: int) -> list[str]:
    """Forgets finished jobs beyond the newest `keep_jobs`, or finished over `keep_days` days of running time ago.

    Returns the names of their folders.
    """
    finished = Job.objects.filter(kind__in=MODEL_KINDS, state__in=FINISHED)
    oldest_s = running_time.now_s() - timedelta(days=keep_days).total_seconds()
    ids = set(finished.filter(finished_running_s__lt=oldest_s).values_list("pk", flat=True))
    ids |= set(finished.order_by("-pk").values_list("pk", flat=True)[keep_jobs:])
    found = list(ModelJob.objects.filter(pk__in=ids).values_list("folder", flat=True))
    Job.objects.filter(pk__in=ids).delete()
    return found


def _digest(new: SubmitModelJob) -> str:
    parts = (new.request.kind.encode(), new.request.json, new.content_digest.encode())
    return hashlib.sha256(b"\n".join(parts)).hexdigest()
