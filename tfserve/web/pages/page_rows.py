"""Reads data for the pages: few queries, and only the part of a large value that is shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import msgspec
from django.db.models import Case, F, TextField, Value, When
from django.db.models.functions import Length, Substr

from tfserve.db import training_tasks
from tfserve.db.models import FINISHED, Job, TrainingTask
from tfserve.db.task_json import STATES, error_of
from tfserve.errors import Failure, NotFound
from tfserve.ipc.messages import JobKind, JobState

RECENT_JOBS = 50
RECENT_TASKS = 10
SHOWN_CHARS = 20_000
#: Metrics of a model's quality, with their labels.
METRICS = {"accuracy": "accuracy", "mean_iou": "mean IoU", "map50": "mAP50", "map": "mAP"}
#: Label and file of the plot with examples, by train type.
EXAMPLES = {
    "classification": ("mistakes", "worst_mistakes.png"), "segmentation": ("masks", "masks.png"),
    "detection": ("boxes", "boxes.png"),
}  # fmt: skip
UPLOAD_CONTENT = "content"
"""The folder in which the files of an upload are (`uploads/store.py`)."""
#: Larger requests are not parsed. Only their beginning is shown, as JSON.
REQUEST_CHARS = 1_000_000


@dataclass(frozen=True)
class Excerpt:
    """The beginning of a text, and how many characters were left out."""

    text: str
    left_out: int

    @classmethod
    def of(cls, text: str, size: int) -> Excerpt:
        """`text` may be the beginning of a text of `size` characters."""
        shown = text[:SHOWN_CHARS]
        return cls(shown, size - len(shown))


@dataclass(frozen=True)
class JobRow:
    """A job in the list."""

    job: Job
    failure: Failure | None


@dataclass(frozen=True)
class TaskRow:
    """A training task in the list, in the terms of the training API."""

    task: TrainingTask

    @property
    def state(self) -> str:
        return STATES[JobState(self.task.job.state)]

    @property
    def is_finished(self) -> bool:
        return self.task.job.state in FINISHED

    @property
    def has_result(self) -> bool:
        return self.task.model_path is not None

    @property
    def error(self) -> str | None:
        return error_of(self.task)

    @property
    def project(self) -> str:
        """The folder's name; the id of the project if its files were uploaded."""
        name = PurePath(self.task.project_dir).name
        return self.task.project_id if name == UPLOAD_CONTENT else name

    @property
    def summary(self) -> str:
        """The quality of the result, or the current activity."""
        metrics = self.task.metrics or {}
        quality = [metrics["verdict"]] if metrics.get("verdict") else []
        quality += [f"{label} {metrics[name]:.4f}" for name, label in METRICS.items() if name in metrics]
        return ", ".join(quality) if self.has_result and quality else self.task.message

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """The table of candidates of a finished run."""
        known: list[dict[str, Any]] = (self.task.metrics or {}).get("candidates") or []
        return known

    @property
    def score(self) -> str:
        """The metric by which candidates are compared."""
        return "Mean IoU" if self.task.train_type == "segmentation" else "Balanced accuracy"

    @property
    def folder(self) -> str:
        """The URL of the result folder."""
        return f"/tasks/{self.task.task_id}/artifacts/"

    @property
    def example_name(self) -> str:
        return EXAMPLES[self.task.train_type][0]

    @property
    def example_plot(self) -> str:
        return EXAMPLES[self.task.train_type][1]

    @property
    def quality_name(self) -> str:
        return "precision and recall" if self.task.train_type == "detection" else "confusion"

    @property
    def quality_plot(self) -> str:
        return "precision_recall.png" if self.task.train_type == "detection" else "confusion_matrix.png"


@dataclass(frozen=True)
class JobPage:
    """The contents of the page of one job."""

    job: Job
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


def recent_jobs() -> tuple[list[JobRow], bool]:
    """The newest jobs, and whether there are more."""
    newest_first = Job.objects.order_by("-pk").select_related("workspace", "outcome")
    found = newest_first.only(
        "number", "kind", "state", "created_at", "started_at", "finished_at", "workspace__name", "outcome__error"
    )[: RECENT_JOBS + 1]
    rows = [JobRow(job, _failure(getattr(getattr(job, "outcome", None), "error", None))) for job in found]
    return rows[:RECENT_JOBS], len(rows) > RECENT_JOBS


def recent_tasks() -> tuple[list[TaskRow], int]:
    """The newest training tasks, and the total number."""
    found, total = training_tasks.tasks(user_id=None, project_id=None, limit=RECENT_TASKS, offset=0)
    return [TaskRow(task) for task in found], total


def job_page(job_id: int) -> JobPage:
    """Raises `NotFound`."""
    job = Job.objects.filter(pk=job_id).select_related("workspace").defer("request").first()
    if job is None:
        raise NotFound(f"There is no job {job_id}, or it is no longer kept.")
    texts = _texts(job_id)
    script, request, raw = _request(job.kind, texts["request_text"], texts["request_size"])
    return JobPage(
        job=job,
        request=request,
        task=_task_of(job),
        script=script,
        raw_request=raw,
        result=Excerpt.of(texts["result"], texts["result_size"]) if texts["result"] is not None else None,
        failure=_failure(texts["error"]),
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
