"""Training: the requests of web, and those to a train worker."""

from __future__ import annotations

from typing import Any

from tfserve.ipc.messages.base import JobState, Message, Request
from tfserve.ipc.messages.placement import NeededResources


class StartTraining(Request[str]):
    """Examines a project and queues a training task for it. Responds with its id; fails with all problems.

    `weights` is an uploaded file, which is kept in the task's folder; the parameter `weights` then names it.
    """

    user_id: str
    project_id: str
    project_dir: str
    train_type: str
    parameters: dict[str, Any]
    deploy_to: str | None = None
    weights: bytes | None = None
    owner: str = ""
    traceparent: str = ""
    """The trace of the request, for the callbacks."""
    callback: str | None = None
    """The URL that receives the run's job as JSON when it has ended."""
    resources: NeededResources = {}
    """What the process that trains needs."""


class ProjectExamined(Message):
    """`problems` are sentences with paths, and prevent a training. `skipped` are {path, reason}, bounded.

    `dataset` is what the task's response says about the images: see `Findings.summary`. `samples` are a few good images
    of each class, {path, label}.
    """

    problems: list[str]
    skipped: list[dict[str, str]]
    skipped_count: int
    image_count: int
    classes: list[str]
    dataset: dict[str, Any] = {}
    samples: list[dict[str, str]] = []


class CheckProject(Request[ProjectExamined]):
    """Examines a project like `StartTraining`, with its problems as part of the response. Nothing is kept."""

    project_dir: str
    train_type: str
    parameters: dict[str, Any]


class CancelTask(Request[None]):
    """Responds when the task has ended."""

    task_id: str


class FinishTask(Request[None]):
    """Ends a running task early, with the best model so far. Responds when the worker has been notified."""

    task_id: str


class ResumeTask(Request[None]):
    """Gives a failed or cancelled task another run."""

    task_id: str


class FeedbackKept(Message):
    """`file` is relative to the project's results; `images` is the number of images kept so far."""

    label: str
    file: str
    images: int


class KeepFeedback(Request[FeedbackKept]):
    """Keep an image with its correct label for the next training of the project."""

    task_id: str
    label: str
    image: bytes


class ExamineProject(Request[ProjectExamined]):
    """Check a project folder before anything is trained.

    The images are listed in the file `findings`, from which the training continues, unless there are problems.
    Links that lead outside of `roots` are not followed; without roots all are.
    """

    project_dir: str
    train_type: str
    parameters: dict[str, Any]
    findings: str
    roots: list[str] = []


class TrainingEnded(Message):
    """`error` is a Failure as JSON; `model_path` the SavedModel in `folder`; `metrics` a summary for the task."""

    state: JobState
    error: bytes | None = None
    model_path: str | None = None
    metrics: dict[str, Any] | None = None


class FinishTraining(Message):
    """The training of this job is to deliver its best model soon. No response: the training ends."""

    job: int


class Train(Request[TrainingEnded]):
    """Train on what ExamineProject found, and send `Progress`.

    `folder` is where the result is moved to when it is complete, `work_folder` holds checkpoints between attempts.
    `timings` is a file that keeps how long stages took on this machine; empty for none. On a node, `local_paths` has
    the path there of each path on the head that `parameters` and the findings may have.
    """

    job: int
    task_id: str
    project_dir: str
    train_type: str
    parameters: dict[str, Any]
    findings: str
    folder: str
    work_folder: str
    timings: str = ""
    local_paths: dict[str, str] = {}


class Progress(Message):
    """How far a training has come; `progress` is 0..100. Sent with request id 0."""

    job: int
    progress: float
    message: str
    eta_s: float | None = None
    metrics: dict[str, Any] | None = None
