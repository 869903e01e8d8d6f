"""Training: what web asks, and what a train worker is told."""

from __future__ import annotations

from typing import Any

from tfserve.ipc.messages.base import Base, JobState


class StartTraining(Base):
    """Examines a project and queues a training task for it. Answered by Done(task id), or Failed with all problems.

    `weights` is an uploaded file, which is kept in the task's folder; the parameter `weights` then names it.
    """

    user_id: str
    project_id: str
    project_dir: str
    train_type: str
    parameters: dict[str, Any]
    deploy_to: str | None = None
    weights: bytes | None = None


class CancelTask(Base):
    """Answered by Done when the task has ended."""

    task_id: str


class ResumeTask(Base):
    """Gives a task that has ended, but is not done, another run. Answered by Done."""

    task_id: str


class KeepFeedback(Base):
    """Keep an image with its correct label for the next training of the project. Answered by FeedbackKept."""

    task_id: str
    label: str
    image: bytes


class FeedbackKept(Base):
    """`file` is relative to the project's results; `images` is the number of images kept so far."""

    label: str
    file: str
    images: int


class ExamineProject(Base):
    """Look through a project folder before anything is trained. Answered by ProjectExamined or Failed.

    What was found is written to the file `findings`, from which the training goes on, unless there are problems.
    Links that lead outside of `roots` are not followed; without roots all are.
    """

    project_dir: str
    train_type: str
    parameters: dict[str, Any]
    findings: str
    roots: list[str] = []


class ProjectExamined(Base):
    """`problems` are sentences with paths: with any, there is no training. `skipped` are {path, reason}, bounded.

    `dataset` is what the task's response says of the images: see `Findings.summary`.
    """

    problems: list[str]
    skipped: list[dict[str, str]]
    skipped_count: int
    image_count: int
    classes: list[str]
    dataset: dict[str, Any] = {}


class Train(Base):
    """Train what ExamineProject found. Answered by TrainingEnded; Progress comes meanwhile.

    `folder` is where the result is moved to when it is complete, `work_folder` holds checkpoints between attempts.
    `timings` is a file that keeps how long stages took on this machine; empty for none.
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


class Progress(Base):
    """How far a training has come; `progress` is 0..100. Sent with request id 0."""

    job: int
    progress: float
    message: str
    eta_s: float | None = None
    metrics: dict[str, Any] | None = None


class TrainingEnded(Base):
    """`error` is a Failure as JSON; `model_path` the SavedModel in `folder`; `metrics` a summary for the task."""

    state: JobState
    error: bytes | None = None
    model_path: str | None = None
    metrics: dict[str, Any] | None = None
