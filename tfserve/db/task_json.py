"""A training task as JSON, in the words of the contract."""

from __future__ import annotations

from typing import Any

import msgspec

from tfserve.db.models import TrainingTask
from tfserve.errors import Failure
from tfserve.ipc.messages import JobState

STATES = {
    JobState.QUEUED: "pending",
    JobState.RUNNING: "processing",
    JobState.SUCCEEDED: "done",
    JobState.FAILED: "done with error",
    JobState.LOST: "done with error",
    JobState.CANCELLED: "cancelled",
}


def task_json(task: TrainingTask, *, state: str | None = None) -> dict[str, Any]:
    """The contract's eight fields, and what else is known. `state` overrides that of the current run."""
    known: dict[str, Any] = {
        "taskId": task.task_id,
        "progress": round(task.progress, 2),
        "thread": task.worker,
        "state": state or STATES[JobState(task.job.state)],
        "userId": task.user_id,
        "projectId": task.project_id,
        "projectDir": task.project_dir,
        "trainType": task.train_type,
    }
    more = {
        "modelPath": task.model_path,
        "error": error_of(task),
        "metrics": task.metrics,
        "message": task.message or None,
        "eta": task.eta_s,
        "skipped": task.skipped or None,
        "dataset": task.dataset or None,
        "deployTo": task.deploy_to,
        "jobId": task.job_id,
        "resources": task.resources or None,
    }
    return known | {name: value for name, value in more.items() if value is not None}


def error_of(task: TrainingTask) -> str | None:
    """Why the task ended without a result, in a sentence."""
    outcome = getattr(task.job, "outcome", None)
    if outcome is None or outcome.error is None:
        return None
    failure = msgspec.json.decode(outcome.error, type=Failure)
    return failure.message
