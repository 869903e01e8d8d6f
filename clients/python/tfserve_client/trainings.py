"""Trainings: start, follow, cancel and resume training tasks, and read their results."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tfserve_client.core import JSON, Core, encoded, given, in_path, result_in
from tfserve_client.downloads import read_file, save_file
from tfserve_client.flows import Emit, Flow, Request, Stream, Work, operation, stream
from tfserve_client.images import image_file
from tfserve_client.output import Output, Piece, follow_output, read_output, texts, until_ended

ENDED = ("done", "done with error", "cancelled")
Task = dict[str, Any]
"""{taskId, progress, state, message, eta, metrics, modelPath, error, …}, in the words of the training API."""


class Trainings(Core):
    """A training task trains a model on a project folder."""

    @operation
    def train(
        self, project_dir: str, train_type: str = "classification", *, user_id: str = "client",
        project_id: str | None = None, parameters: Mapping[str, Any] | None = None, deploy_to: str | None = None,
        warm_start: str | None = None, resources: Mapping[str, Any] | None = None, callback: str | None = None,
    ) -> Flow[Task]:  # fmt: skip
        """Start a training on a folder of the server, or `upload:<id>`. Returns the task in state `initialize`.

        `train_type` is classification, segmentation or detection. `deploy_to` is the workspace that gets the model.
        `training_parameters` lists the parameters. `resources` is what its process needs, such as {"gpu": 1}.
        """
        fields = given(
            userId=user_id, projectId=project_id or project_dir.rstrip("/").rpartition("/")[2], projectDir=project_dir,
            trainType=train_type, parameters=parameters, deploy_to=deploy_to, warmStart=warm_start,
            resources=resources, callback=callback,
        )  # fmt: skip
        return self._post("/tasks/", fields)

    @operation
    def training(self, id: str) -> Flow[Task]:  # noqa: A002
        """The state of a training."""
        return self._get(_path(id))

    @operation
    def trainings(
        self, *, user_id: str | None = None, project_id: str | None = None, limit: int | None = None,
        offset: int | None = None,
    ) -> Flow[tuple[list[Task], int]]:  # fmt: skip
        """One page of trainings, newest first, and the total number."""
        found = yield from self._get("/tasks/", userId=user_id, projectId=project_id, limit=limit, offset=offset)
        return found["tasks"], found["total"]

    @stream
    def follow_training(self, id: str, *, timeout: float | None = None) -> Stream[Task]:  # noqa: A002
        """The task whenever it has printed something, every 15 s, and when it has ended. Raises `JobTimeout`."""
        yield Emit((yield from self._get(_path(id))))

        def show(_: Piece) -> Stream[Task]:
            yield Emit((yield from self._get(_path(id))))

        yield from follow_output(self, f"{_path(id)}/output", 0, timeout, show)

    @operation
    def wait_for_training(self, id: str, timeout: float | None = None) -> Flow[Task]:  # noqa: A002
        """Wait until a training has ended, at most about `timeout` seconds. Raises `JobTimeout`."""
        yield from until_ended(self, f"{_path(id)}/output", timeout)
        task: Task = yield from self._get(_path(id))
        return task

    @operation
    def cancel_training(self, id: str) -> Flow[Task]:  # noqa: A002
        """Cancel a training. Its best checkpoint is kept. Returns when it has ended."""
        return self._post(f"{_path(id)}/cancel", wait_s=None, idempotent=True)

    @operation
    def finish_training(self, id: str) -> Flow[Task]:  # noqa: A002
        """End a running training early: it delivers its best model so far. `wait_for_training` waits for that."""
        return self._post(f"{_path(id)}/finish", idempotent=True)

    @operation
    def resume_training(self, id: str) -> Flow[Task]:  # noqa: A002
        """Continue a training that failed or was cancelled from its last checkpoint."""
        return self._post(f"{_path(id)}/resume")

    @operation
    def read_training_output(self, id: str, *, offset: int = 0) -> Flow[Output]:  # noqa: A002
        """The output of a training so far, from `offset` (in bytes)."""
        return read_output(self, f"{_path(id)}/output", offset)

    @stream
    def follow_training_output(self, id: str, *, offset: int = 0, timeout: float | None = None) -> Stream[str]:  # noqa: A002
        """The output of a training as it is written, until it has ended."""
        return follow_output(self, f"{_path(id)}/output", offset, timeout, texts)

    @operation
    def training_metrics(self, id: str) -> Flow[dict[str, Any]]:  # noqa: A002
        """The metrics of the model."""
        return self._get(f"{_path(id)}/metrics")

    @operation
    def list_artifacts(self, id: str, path: str = "") -> Flow[list[str]]:  # noqa: A002
        """The names in a folder of the result. Those of folders end with a slash."""
        found = yield from self._get(_artifact(id, path))
        return list(found["files"])

    @operation
    def get_artifact(self, id: str, path: str) -> Flow[bytes]:  # noqa: A002
        """The content of a file of the result."""
        return read_file(self, _artifact(id, path))

    @operation
    def download_artifact(self, id: str, path: str, target: str | Path) -> Flow[int]:  # noqa: A002
        """Write a file of the result to the local path `target`. Returns its size in bytes."""
        return save_file(self, _artifact(id, path), Path(target))

    @operation
    def give_feedback(self, id: str, image: Any, label: str) -> Flow[dict[str, Any]]:  # noqa: A002
        """Add an image with its correct label to the next training of the project. See `predict_images` for images."""
        data, _ = yield Work(partial(image_file, image))
        content = encoded({"image": {"b64": base64.b64encode(data).decode()}, "label": label})
        response = yield from self._send(Request("POST", f"{_path(id)}/feedback", content=content, headers=JSON))
        return dict(result_in(response))

    @operation
    def check_project(
        self, project_dir: str, train_type: str = "classification", *, parameters: Mapping[str, Any] | None = None
    ) -> Flow[dict[str, Any]]:
        """What a training would find in a project folder: {problems, skipped, image_count, classes, samples, …}."""
        fields = given(projectDir=project_dir, trainType=train_type, parameters=parameters)
        return self._post("/training/check/", fields, wait_s=None, idempotent=True)

    @operation
    def project_thumbnail(self, project_dir: str, path: str, *, side: int | None = None) -> Flow[bytes]:
        """A small version of an image in a project folder, in WebP. `side` is its larger side in pixels."""
        address = f"/training/thumbnails/{in_path(path, safe='/')}"
        params = given(projectDir=project_dir, side=side)
        response = yield from self._send(Request("GET", address, params, idempotent=True))
        return bytes(response.content)

    @operation
    def training_image(self, id: str, path: str, *, side: int | None = None) -> Flow[bytes]:  # noqa: A002
        """A small version of an image that a training uses, in WebP. `side` is its larger side in pixels."""
        address = f"{_path(id)}/images/{in_path(path, safe='/')}"
        response = yield from self._send(Request("GET", address, given(side=side), idempotent=True))
        return bytes(response.content)

    @operation
    def training_parameters(self) -> Flow[dict[str, Any]]:
        """The parameters of each train type, with defaults, ranges and descriptions."""
        return self._get("/training/parameters/")


def _path(task_id: str) -> str:
    return f"/tasks/{in_path(task_id)}"


def _artifact(task_id: str, path: str) -> str:
    return f"{_path(task_id)}/artifacts/{in_path(path, safe='/')}"
