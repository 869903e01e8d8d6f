"""The results of the training API, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType


class Task(msgspec.Struct, kw_only=True):
    """A training task. The optional fields are present once they are known."""

    taskId: str  # noqa: N815 (the contract's names)
    progress: Annotated[float, Meta(description="0 to 100")]
    thread: Annotated[str, Meta(description="the worker that runs the task; empty while it waits")]
    state: Literal["initialize", "pending", "processing", "done", "done with error", "cancelled"]
    userId: str  # noqa: N815
    projectId: str  # noqa: N815
    projectDir: str  # noqa: N815
    trainType: str  # noqa: N815
    modelPath: Annotated[str | UnsetType, Meta(description="the trained SavedModel")] = UNSET  # noqa: N815
    error: str | UnsetType = UNSET
    metrics: dict[str, Any] | UnsetType = UNSET
    message: Annotated[str | UnsetType, Meta(description="the current activity")] = UNSET
    eta: Annotated[float | UnsetType, Meta(description="seconds until the end")] = UNSET
    skipped: Annotated[list[Any] | UnsetType, Meta(description="files that were left out")] = UNSET
    dataset: Annotated[dict[str, Any] | UnsetType, Meta(description="what was found in the project folder")] = UNSET
    deployTo: str | UnsetType = UNSET  # noqa: N815
    jobId: int | UnsetType = UNSET  # noqa: N815
    resources: Annotated[dict[str, Any] | UnsetType, Meta(description="what its process needs")] = UNSET
    warnings: list[str] | UnsetType = UNSET


class TaskList(msgspec.Struct, kw_only=True):
    """One page of tasks. `total` counts those on all pages."""

    tasks: list[Task]
    total: int


class FileNames(msgspec.Struct, kw_only=True):
    """The names in a folder of the result. Those of folders end with /."""

    files: list[str]


class FeedbackResult(msgspec.Struct, kw_only=True):
    """The stored image, and the number of images that were added so far."""

    taskId: str  # noqa: N815
    label: str
    file: str
    images: int
