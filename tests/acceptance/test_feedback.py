"""What the training API takes besides the contract's fields: parameters in the form, warnings, feedback."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import pytest

from tests.acceptance.conftest import Server
from tests.acceptance.training_calls import form, query


@pytest.fixture(scope="module")
def project(server: Server, digits: Path) -> Path:
    folder = server.roots / "projects" / "feedback"
    shutil.copytree(digits, folder)
    return folder


@pytest.fixture(scope="module")
def task(server: Server, project: Path) -> str:
    """A task that has its parameters from a form, and was cancelled."""
    fields = form(project, epochs="500", exports="saved_model", mirror="true", colour="red", time_out="3")
    answer = server.http.post("/", data=fields | {"parameters": '{"patience": 400}'})
    assert answer.status_code == 200, answer.text
    task = answer.json()
    assert [warning.partition(";")[0] for warning in task["warnings"]] == [
        "unknown field 'colour'",
        "unknown field 'time_out'",
    ]
    server.http.post(f"/tasks/{task['taskId']}/cancel")
    return str(task["taskId"])


def test_a_task_is_started_with_the_parameters_of_a_form(server: Server, task: str) -> None:
    assert query(server, task)["state"] == "cancelled"
    assert "warnings" not in query(server, task)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"epochs": "many"}, "epochs: a whole number"),
        ({"mirror": "perhaps"}, "mirror: true or false"),
        ({"parameters": "[1]"}, "parameters: a JSON object"),
        ({"parameters": '{"epoch": 3}'}, "did you mean 'epochs'"),
    ],
)
def test_wrong_parameters_in_a_form_are_400(server: Server, project: Path, fields: dict[str, str], words: str) -> None:
    answer = server.http.post("/", data=form(project, **fields))
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_an_image_is_sent_back_with_its_label_as_json_or_as_a_file(server: Server, project: Path, task: str) -> None:
    path, images = f"/tasks/{task}/feedback", sorted((project / "images").rglob("*.png"))
    text = base64.b64encode(images[0].read_bytes()).decode()
    answer = server.http.post(path, json={"image": {"b64": text}, "label": "digit 1"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"taskId": task, "label": "digit 1", "images": 1, "file": answer.json()["file"]}
    assert (project / answer.json()["file"]).read_bytes() == images[0].read_bytes()
    headers = {"Content-Type": "image/png"}
    answer = server.http.post(path, params={"label": "Digit_0"}, content=images[-1].read_bytes(), headers=headers)
    assert (answer.json()["label"], answer.json()["images"]) == ("digit 0", 2)


def test_wrong_feedback_is_refused_with_what_is_expected(server: Server, task: str) -> None:
    path = f"/tasks/{task}/feedback"
    for content, words in (
        ({"image": {"b64": "é"}, "label": "digit 1"}, "not base64"),
        ({"image": {"b64": "aGk="}, "label": "digit 1"}, "an image file"),
        ({"image": {"b64": ""}, "label": "digit 12"}, "one of digit 0"),
        ({"label": "digit 1"}, "image"),
    ):
        answer = server.http.post(path, json=content)
        assert answer.status_code == 400, answer.text
        assert words in answer.json()["error"]
    missing = server.http.post("/tasks/none/feedback", json={"image": {"b64": "aGk="}, "label": "x"})
    assert missing.status_code == 404
