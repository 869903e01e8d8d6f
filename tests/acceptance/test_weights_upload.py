"""Weights of a backbone that come with the form."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

from tests.acceptance.conftest import Server
from tests.acceptance.training_calls import finished, form
from tfserve.training.known_networks import packaged_weights


@pytest.fixture
def project(server: Server, digits: Path, request: pytest.FixtureRequest) -> Path:
    folder = server.roots / "projects" / request.node.name[:60]
    shutil.copytree(digits, folder)
    return folder


@pytest.fixture(scope="module")
def real() -> bytes:
    file = packaged_weights()
    assert file is not None
    return file.read_bytes()


def test_a_file_that_holds_no_weights_is_400_and_no_task(server: Server, project: Path, real: bytes) -> None:
    before = server.http.get("/tasks/").json()["total"]
    for content, words in (
        (b"", "empty"), (b"hello", "begins with b'hello'"), (real[:1_000_000], "truncated"),
        (pickle.dumps(print, protocol=2), "not a file of weights"),
    ):  # fmt: skip
        answer = server.http.post("/", data=form(project), files={"weights": ("net.pth", content)})
        assert answer.status_code == 400, answer.text
        assert words in answer.json()["error"]
    for fields, status, words in (
        ({"trainType": "detection"}, 400, "weights"),
        ({"weights": "/etc/passwd"}, 400, "more than one"),
        ({"backbone": "compact"}, 400, "Leave one of the two away"),
    ):
        answer = server.http.post("/", data=form(project, **fields), files={"weights": ("net.pth", real)})
        assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
    too_large = server.http.post("/", data=form(project), files={"weights": ("net.pth", bytes(70 * 2**20))})
    assert too_large.status_code == 413
    assert server.http.get("/tasks/").json()["total"] == before
    assert not list((server.data_dir / "training").glob("*/weights*"))


def test_an_uploaded_file_is_kept_with_the_task_and_other_files_are_a_warning(
    server: Server, project: Path, real: bytes
) -> None:
    files = {"weights": ("net.pth", real), "weigths": ("again.pth", b"x")}
    answer = server.http.post("/", data=form(project, epochs="3"), files=files)
    assert answer.status_code == 200, answer.text
    task = answer.json()
    assert "did you mean 'weights'" in task["warnings"][0]
    kept = server.data_dir / "training" / task["taskId"] / "weights.pth"
    assert kept.read_bytes() == real
    server.http.post(f"/tasks/{task['taskId']}/cancel")


@pytest.mark.slow
def test_a_training_uses_the_uploaded_weights(server: Server, project: Path, real: bytes) -> None:
    fields = form(project, exports="saved_model", effort="fast", backbone="efficientnet-lite0")
    task = server.http.post("/", data=fields, files={"weights": ("net.pth", real)}).json()
    ended = finished(server, task["taskId"])
    assert ended["state"] == "done", ended
    metrics = server.http.get(f"/tasks/{task['taskId']}/metrics").json()
    assert "weights.pth" in metrics["network"]["why"]
