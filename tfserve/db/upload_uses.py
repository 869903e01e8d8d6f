"""Which uploads are in use, by the paths that the database has."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
from django.db.models import Max, Q

from tfserve.db.models import Deployment, Job, TrainingTask
from tfserve.ipc.messages import ACTIVE, JobKind

_SERVING = (Deployment.State.LOADING, Deployment.State.ACTIVE, Deployment.State.DRAINING)
_PART = "/uploads/"
_ID = re.compile(r"/uploads/([0-9a-f]{32})(?![0-9a-f])")


def uses() -> dict[str, str]:
    """The id of each upload that a deployment, a job or an unfinished training needs, and what needs it."""
    found: dict[str, str] = {}
    for text, user in (*_trainings(), *_jobs(), *_deployments()):
        found.update(dict.fromkeys(_ID.findall(text), user))
    return found


def kept() -> set[str]:
    """The ids of uploads that are not removed by themselves though nothing runs.

    They hold the result of a training, or the model that a workspace had last, which may be loaded again.
    """
    results = TrainingTask.objects.filter(model_path__contains=_PART).values_list("model_path", flat=True)
    last = Deployment.objects.values("workspace").annotate(last=Max("pk")).values("last")
    models = Deployment.objects.filter(pk__in=last).values_list("path", "weights")
    texts = [*results, *(text for pair in models for text in pair)]
    return {id_ for text in texts for id_ in _ID.findall(text or "")}


def _deployments() -> Iterator[tuple[str, str]]:
    rows = Deployment.objects.filter(Q(path__contains=_PART) | Q(weights__contains=_PART), state__in=_SERVING)
    for row in rows.select_related("workspace"):
        yield f"{row.path} {row.weights or ''}", f"the model of workspace {row.workspace.name!r}"


def _jobs() -> Iterator[tuple[str, str]]:
    kinds = (JobKind.SCRIPT, JobKind.DEPLOY, JobKind.UPDATE, JobKind.BATCH)
    rows = Job.objects.filter(kind__in=kinds, state__in=ACTIVE, request__contains=_PART)
    for row in rows.select_related("workspace"):
        user = f"batch {row.pk}" if row.workspace is None else f"job {row.number} of workspace {row.workspace.name!r}"
        yield row.request or "", user


def _trainings() -> Iterator[tuple[str, str]]:
    for task in TrainingTask.objects.filter(job__state__in=ACTIVE):
        yield f"{task.project_dir} {msgspec.json.encode(task.parameters).decode()}", f"training task {task.task_id}"
