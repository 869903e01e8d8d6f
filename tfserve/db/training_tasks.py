"""Training tasks as rows: how they are written and read. A task's current run is a job of kind `train`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Q, QuerySet
from django.utils import timezone

from tfserve.access.principals import PRINCIPAL
from tfserve.db import callbacks
from tfserve.db.models import Job, TrainingTask
from tfserve.db.task_json import STATES
from tfserve.errors import Conflict, NotFound
from tfserve.ipc.messages import ACTIVE, FINISHED, JobKind, JobState

LONG = ("skipped", "dataset")
"""Fields that lists of tasks do not read: they have an entry for each file and each class."""


class NoSuchTask(NotFound):
    """cannot find task info"""


class NotDone(Conflict):
    """Training task {task_id} has no model yet: its run is {state}."""


class NotResumable(Conflict):
    """Task {task_id} is {state}: only a task that has ended, and is not done, can be resumed."""


def create(task: TrainingTask, callback: str | None = None) -> TrainingTask:
    """Records a new task with its first run, queued."""
    task.job = _new_run()
    task.save(force_insert=True)
    if callback is not None:
        callbacks.create(task.job.pk, callback, task.owner)
    return task


def resume(task_id: str) -> TrainingTask:
    """Gives a failed or cancelled task another run, queued. Keeps its progress. Raises `NotResumable`."""
    task = find(task_id)
    if task.job.state not in FINISHED or task.job.state == JobState.SUCCEEDED:
        raise NotResumable(task_id=task_id, state="done" if task.job.state == JobState.SUCCEEDED else "not over")
    before, task.job = task.job, _new_run()
    callbacks.copy(before.pk, task.job.pk)
    task.message = "waiting to be resumed"
    task.eta_s = None
    task.fruitless = 0
    task.save(update_fields=["job", "message", "eta_s", "fruitless"])
    return task


def died(task_id: str, epoch: int) -> int:
    """Counts a death of the run, whose last checkpoint is of this epoch.

    Returns the number of deaths in a row without a new checkpoint.
    """
    task = find(task_id)
    task.fruitless = 0 if epoch > task.reached else task.fruitless + 1
    task.reached = max(task.reached, epoch)
    task.save(update_fields=["reached", "fruitless"])
    return task.fruitless


def save_progress(task_id: str, **fields: Any) -> None:
    """Progress never decreases, not even after a restart of the run."""
    task = find(task_id)
    fields["progress"] = max(task.progress, fields.get("progress", 0.0))
    TrainingTask.objects.filter(pk=task.pk).update(**fields)


def find(task_id: str) -> TrainingTask:
    """Raises `NoSuchTask`."""
    found = TrainingTask.objects.select_related("job", "job__outcome").filter(task_id=task_id).first()
    if found is None or not PRINCIPAL.get().sees_owned_by(found.owner):
        raise NoSuchTask(taskId=task_id)
    return found


def tasks(
    *, user_id: str | None, project_id: str | None, limit: int, offset: int
) -> tuple[Sequence[TrainingTask], int]:
    """One page of tasks, newest first, and how many there are in all."""
    found = _visible()
    if user_id is not None:
        found = found.filter(user_id=user_id)
    if project_id is not None:
        found = found.filter(project_id=project_id)
    return list(found[offset : offset + limit]), found.count()


def search(*, text: str, state: str, before: int | None, limit: int) -> list[TrainingTask]:
    """Tasks with this text in their ids or folder, newest first. `state` is one of `STATES`' words or empty.

    `before` is the key of the last task of the page before.
    """
    found = _visible()
    for word in text.split():
        found = found.filter(
            Q(task_id__icontains=word) | Q(project_id__icontains=word) | Q(user_id__icontains=word)
            | Q(project_dir__icontains=word) | Q(train_type__icontains=word)
        )  # fmt: skip
    if state:
        found = found.filter(job__state__in=[each for each, word in STATES.items() if word == state])
    if before is not None:
        found = found.filter(pk__lt=before)
    return list(found.defer(*LONG)[:limit])


def of_project(task: TrainingTask, limit: int) -> list[TrainingTask]:
    """Other tasks of the same project and train type that have a model, newest first."""
    same = Q(project_dir=task.project_dir) | Q(project_id=task.project_id, user_id=task.user_id)
    found = _visible().filter(same, train_type=task.train_type, model_path__isnull=False).exclude(pk=task.pk)
    return list(found.defer(*LONG)[:limit])


def _visible() -> QuerySet[TrainingTask]:
    """The tasks that the caller may see, newest first."""
    found = TrainingTask.objects.order_by("-pk").select_related("job", "job__outcome")
    principal = PRINCIPAL.get()
    return found if principal.is_admin else found.filter(owner__in=("", principal.owner))


def model_path(task_id: str) -> str:
    """The SavedModel that a task has made. Raises `NoSuchTask`, `NotDone`."""
    task = find(task_id)
    if task.model_path is None:
        raise NotDone(task_id=task_id, state=task.job.state)
    return task.model_path


def unfinished() -> list[TrainingTask]:
    """In the order of their runs."""
    return list(TrainingTask.objects.select_related("job").filter(job__state__in=ACTIVE).order_by("job_id"))


def unreported() -> list[TrainingTask]:
    """Tasks whose current state was not reported to the operator's server, in the order of their runs."""
    other = Q()
    for state, word in STATES.items():
        other |= Q(job__state=state) & ~Q(reported_state=word)
    found = TrainingTask.objects.filter(other, reported_state__isnull=False)
    return list(found.select_related("job", "job__outcome").order_by("job_id"))


def set_reported(task_id: str, state: str) -> None:
    TrainingTask.objects.filter(task_id=task_id).update(reported_state=state)


def _new_run() -> Job:
    number = Job.objects.filter(kind=JobKind.TRAIN).count()
    return Job.objects.create(number=number, kind=JobKind.TRAIN, created_at=timezone.now())
