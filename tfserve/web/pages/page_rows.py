"""Reads training tasks for the pages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from tfserve.db import training_tasks
from tfserve.db.models import TrainingTask
from tfserve.db.task_json import STATES, error_of
from tfserve.ipc.messages import FINISHED, JobState

RECENT_TASKS = 10
#: Metrics of a model's quality, with their labels.
METRICS = {"accuracy": "accuracy", "mean_iou": "mean IoU", "map50": "mAP50", "map": "mAP"}
#: Label and file of the plot with examples, by train type.
EXAMPLES = {
    "classification": ("mistakes", "worst_mistakes.png"), "segmentation": ("masks", "masks.png"),
    "detection": ("boxes", "boxes.png"),
}  # fmt: skip
UPLOAD_CONTENT = "content"
"""The folder in which the files of an upload are (`uploads/store.py`)."""


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


def unfinished_tasks() -> list[TaskRow]:
    """The trainings that run or wait, in the order of their runs."""
    return [TaskRow(task) for task in training_tasks.unfinished()]
