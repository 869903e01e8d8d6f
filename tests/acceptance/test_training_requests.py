"""Requests to the training API that are wrong in some way, and how they are answered. No training is run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.conftest import Server
from tests.acceptance.training_calls import form

LONG = "x" * 300


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("waiting") / "data", "--train-workers", "0")
    yield running
    running.close()


@pytest.fixture(scope="module")
def project(waiting: Server, digits: Path) -> Path:
    return Path(shutil.copytree(digits, waiting.roots / "project"))


@pytest.fixture(scope="module")
def task(waiting: Server, project: Path) -> str:
    answer = waiting.http.post("/", data=form(project))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["taskId"])


def test_the_type_of_a_form_is_known_in_any_case(waiting: Server) -> None:
    content = str(httpx.QueryParams(form(waiting.roots / "missing")))
    for media in ("Application/X-WWW-Form-Urlencoded", "application/x-www-form-urlencoded; charset=UTF-8"):
        answer = waiting.http.post("/", content=content, headers={"Content-Type": media})
        assert answer.status_code == 400
        assert "not found on the server" in answer.json()["error"]


def test_the_response_says_how_the_project_was_read(waiting: Server, digits: Path) -> None:
    folder = waiting.roots / "split"
    shutil.copytree(digits / "images", folder / "train")
    shutil.copytree(digits / "images" / "Digit_1", folder / "val" / "Digit_1")
    for path in (folder / "val" / "Digit_1").iterdir():
        path.write_bytes(path.read_bytes() + b"\0")
    (folder / "train" / "Digit_0").rename(folder / "train" / "零")
    task = waiting.http.post("/", data=form(folder)).json()
    assert "<class>/<image>" in task["message"], task
    assert task["dataset"]["layout"].startswith("train|val/<class>/<image> (train ")
    first = task["dataset"]["classes"][0]
    assert (first["label"], first["display"], first["number"]) == ("class 1", "零", 0)
    assert task["dataset"]["split"].keys() == {"train", "validation"}
    assert "'零' has no letter" in task["dataset"]["remarks"][0]


def test_a_zip_file_can_be_the_project_and_its_results_go_next_to_it(waiting: Server, digits: Path) -> None:
    archive = Path(shutil.make_archive(str(waiting.roots / "flowers"), "zip", digits))
    task = waiting.http.post("/", data=form(archive)).json()
    assert task["projectDir"] == str(archive)
    assert task["dataset"]["layout"] == "images/<class>/<image>, unpacked from a zip file"
    assert len(task["dataset"]["classes"]) == 10
    for name in ("broken.zip", "gone.zip"):
        (waiting.roots / "broken.zip").write_bytes(b"no zip")
        assert waiting.http.post("/", data=form(waiting.roots / name)).status_code == 400


def test_a_body_that_is_neither_form_nor_json_is_reported_what_was_expected(waiting: Server, project: Path) -> None:
    content = str(httpx.QueryParams(form(project)))
    for answer in (
        waiting.http.post("/", content=content, headers={"Content-Type": "text/plain"}),
        waiting.http.post("/", content=content),
    ):
        assert answer.status_code == 400
        words = "Send a form (application/x-www-form-urlencoded or multipart/form-data)"
        assert words in answer.json()["result"]


def test_a_form_with_parts_is_read_as_any_other(waiting: Server, project: Path) -> None:
    fields = {name: (None, value) for name, value in form(project, projectDir=str(waiting.roots / "missing")).items()}
    answer = waiting.http.post("/", files=fields)
    assert (answer.status_code, "not found on the server" in answer.json()["error"]) == (400, True)
    content, media = waiting.http.build_request("POST", "/", files=fields), "content-type"
    cut = waiting.http.post("/", content=content.read()[:-20], headers={media: content.headers[media]})
    assert (cut.status_code, "cut off" in cut.json()["error"]) == (400, True)


@pytest.mark.parametrize("path", [f"/{LONG}", f"/{LONG}/x", "/a\0b"])
def test_a_folder_that_can_be_no_path_is_400(waiting: Server, path: str) -> None:
    answer = waiting.http.post("/", data=form(Path("x"), projectDir=f"{waiting.roots}{path}"))
    assert (answer.status_code, "error" in answer.json()) == (400, True), answer.text


@pytest.mark.parametrize("name", [LONG, f"{LONG}/x", "a%00b", "..%2f.."])
def test_an_artifact_that_can_be_no_file_is_404(waiting: Server, task: str, name: str) -> None:
    answer = waiting.http.get(f"/tasks/{task}/artifacts/{name}")
    assert (answer.status_code, "not found in the result." in answer.json()["error"]) == (404, True), answer.text


def test_artifacts_are_not_read_through_a_link_that_leads_outside(
    waiting: Server, project: Path, task: str, tmp_path: Path
) -> None:
    (tmp_path / task).mkdir()
    (tmp_path / task / "labels.txt").write_text("secret")
    (project / "models").symlink_to(tmp_path)
    try:
        assert waiting.http.get(f"/tasks/{task}/artifacts/labels.txt").status_code == 404
        refused = waiting.http.post("/", data=form(project))
        assert refused.status_code in (400, 409)
    finally:
        (project / "models").unlink()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"paramters": {"epochs": 3}}, "did you mean 'parameters'"),
        ({"userId": ""}, "userId"),
        ({"projectId": ""}, "projectId"),
    ],
)
def test_json_with_a_misspelt_or_empty_field_is_400_and_names_it(
    waiting: Server, project: Path, fields: dict[str, object], words: str
) -> None:
    answer = waiting.http.post("/tasks/", json=form(project) | fields)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("POST", "/cancel"), ("POST", "/resume"), ("GET", "/output"), ("GET", "/metrics")],
)
def test_an_unknown_task_is_404_with_its_id(waiting: Server, method: str, path: str) -> None:
    answer = waiting.http.request(method, f"/tasks/nope{path}")
    assert (answer.status_code, answer.json()) == (404, {"taskId": "nope", "error": "cannot find task info"})
    assert (
        waiting.http.get("/", params={"taskId": "nope"}).content == b'{"taskId":"nope","error":"cannot find task info"}'
    )
