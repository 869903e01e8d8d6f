"""The training API: a project folder in; progress; a deployable model out."""

from __future__ import annotations

import base64
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from tests.acceptance.conftest import Server
from tests.acceptance.training_calls import begin, finished, form, in_epoch, mask_project, query

Start = Callable[..., Server]

CONTRACT_FIELDS = {"taskId", "progress", "thread", "state", "userId", "projectId", "projectDir", "trainType"}


@pytest.fixture
def project(server: Server, digits: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the test's own below the shared server's roots."""
    folder = server.roots / "projects" / request.node.name[:60]
    shutil.copytree(digits, folder)
    return folder


@pytest.mark.slow
def test_a_form_starts_a_training_whose_result_is_deployed_in_one_call(
    server: Server, project: Path, workspace: str
) -> None:
    answer = server.http.post("/", data=form(project, trainType="Classification", effort="fast"))
    assert answer.status_code == 200, answer.text
    task = answer.json()
    assert set(task) >= CONTRACT_FIELDS
    assert (task["state"], task["progress"], task["thread"]) == ("initialize", 0, "")
    assert task["trainType"] == "classification"
    seen = [task["progress"]]
    revision = 0
    while (task := query(server, task["taskId"]))["state"] in ("pending", "processing"):
        seen.append(task["progress"])
        revision = server.http.get("/server/", params={"since": revision}).json()["result"]["revision"]
    assert task["state"] == "done", task
    assert task["progress"] == 100
    assert seen == sorted(seen)
    assert len(set(seen)) > 5
    model = Path(task["modelPath"])
    assert model.is_relative_to(project / "models" / task["taskId"])
    assert (project / "models" / "latest").resolve() == project / "models" / task["taskId"]

    job = server.call("/deploy/", name=workspace, path=f"task:{task['taskId']}", timeout=60)
    assert job["result"] is True, job
    picture = project / "images" / "Digit_7" / "3.png"
    feed = {"image_bytes": [{"b64": base64.b64encode(picture.read_bytes()).decode()}]}
    job = server.call(
        "/predict/",
        name=workspace,
        fetches=["label", "probabilities"],
        feed_dict=feed,
        signature="image_bytes",
        timeout=60,
    )
    assert job["result"][0] == ["digit 7"], job
    assert len(job["result"][1][0]) == 10
    files = server.http.get(f"/tasks/{task['taskId']}/artifacts/").json()["files"]
    assert {"labels.txt", "metrics.json", "README.md"} <= set(files)
    assert "digit 7" in server.http.get(f"/tasks/{task['taskId']}/artifacts/labels.txt").text
    assert server.http.get(f"/tasks/{task['taskId']}/metrics").json()["confusion_matrix"]
    assert "Candidate linear head" in server.http.get(f"/tasks/{task['taskId']}/output").text


@pytest.mark.slow
def test_a_segmentation_gives_masks_in_the_size_of_the_images(server: Server, workspace: str) -> None:
    project = mask_project(server.roots / "projects" / "masks")
    task = begin(server, project, {"epochs": 2}, trainType="SEGMENTATION", deploy_to=workspace)
    assert task["trainType"] == "segmentation"
    ended = finished(server, task["taskId"])
    assert ended["state"] == "done", ended
    assert {"mean_iou", "mean_dice"} <= set(ended["metrics"])
    server.wait(workspace, 0)
    feed = {"image_bytes": [{"b64": base64.b64encode((project / "images" / "003.png").read_bytes()).decode()}]}
    job = server.call("/predict/", name=workspace, fetches="mask", feed_dict=feed, signature="image_bytes", timeout=60)
    (mask,) = job["result"][0]
    assert (len(mask), len(mask[0])) == (32, 40)
    assert {value for row in mask for value in row} <= {0, 255}


def test_every_problem_of_masks_is_reported_at_once(server: Server) -> None:
    project = mask_project(server.roots / "projects" / "wrong masks")
    (project / "labels" / "001.png").unlink()
    (project / "images" / "002.png").unlink()
    Image.new("L", (8, 8)).save(project / "labels" / "003.png")
    answer = server.http.post("/", data=form(project, trainType="segmentation"))
    assert answer.status_code == 400
    problems = answer.json()["problems"]
    assert len(problems) == 3, problems
    for name, words in (
        ("001.png", "No mask with the same name"),
        ("002.png", "No image with the same name"),
        ("003.png", "another size"),
    ):
        assert any(name in problem and words in problem for problem in problems), problems
    assert all(word in answer.json()["error"] for word in ("001.png", "002.png", "003.png"))


@pytest.mark.parametrize(("classes", "pictures"), [(1, 5), (3, 1)])
def test_too_few_classes_or_images_are_400_and_no_task(
    server: Server, digits: Path, request: pytest.FixtureRequest, classes: int, pictures: int
) -> None:
    project = server.roots / "projects" / request.node.name
    for label in range(classes):
        folder = project / "images" / f"Digit_{label}"
        folder.mkdir(parents=True)
        for number in range(pictures):
            shutil.copy(digits / "images" / f"Digit_{label}" / f"{number}.png", folder)
    before = server.http.get("/tasks/").json()["total"]
    answer = server.http.post("/", data=form(project))
    assert answer.status_code == 400
    assert "at least 2" in answer.json()["error"]
    assert server.http.get("/tasks/").json()["total"] == before


def test_an_unknown_task_is_404_in_the_contract_s_words(server: Server) -> None:
    answer = server.http.get("/", params={"taskId": "nope"})
    assert (answer.status_code, answer.json()) == (404, {"taskId": "nope", "error": "cannot find task info"})
    for path in ("/tasks/nope", "/tasks/nope/output", "/tasks/nope/metrics", "/tasks/nope/artifacts/x"):
        assert server.http.get(path).status_code == 404
    for path in ("/tasks/nope/cancel", "/tasks/nope/resume"):
        assert server.http.post(path).status_code == 404
    assert server.http.post("/deploy/", json={"name": "x", "path": "task:nope"}).status_code == 404


@pytest.mark.parametrize("missing", ["userId", "projectId", "projectDir", "trainType"])
def test_a_form_without_a_field_is_400_and_names_it(server: Server, project: Path, missing: str) -> None:
    fields = form(project)
    del fields[missing]
    answer = server.http.post("/", data=fields)
    assert answer.status_code == 400
    assert missing in answer.json()["error"]


@pytest.mark.parametrize("train_type", ["detektion", "regression", "classificatoin", ""])
def test_an_unknown_train_type_is_400(server: Server, project: Path, train_type: str) -> None:
    answer = server.http.post("/", data=form(project, trainType=train_type))
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_folder_outside_of_the_roots_is_403_and_a_missing_one_400(server: Server) -> None:
    assert server.http.post("/", data=form(Path("/etc"))).status_code == 403
    assert server.http.post("/", data=form(server.roots / "missing")).status_code == 400


def test_every_problem_of_a_project_is_reported_at_once_and_no_task_is_made(server: Server, project: Path) -> None:
    before = server.http.get("/tasks/").json()["total"]
    for picture in (project / "images" / "Digit_1").iterdir():
        picture.unlink()
    shutil.copytree(project / "images" / "Digit_2", project / "images" / "digit-2")
    (project / "labels_info.txt").write_text("label,number\nunknown thing,1\n")
    answer = server.http.post("/", data=form(project))
    assert answer.status_code == 400
    problems = answer.json()["problems"]
    assert len(problems) >= 3, problems
    assert any("Digit_1" in problem or "digit 1" in problem for problem in problems)
    assert any("digit-2" in problem for problem in problems)
    assert any("unknown thing" in problem for problem in problems)
    assert server.http.get("/tasks/").json()["total"] == before


def test_parameters_are_listed_and_wrong_ones_are_400_all_at_once(server: Server, project: Path) -> None:
    listed = server.http.get("/training/parameters/").json()
    assert {each["name"] for each in listed["classification"]} >= {"epochs", "seed", "backbone"}
    assert all({"default", "help", "type"} <= set(each) for each in listed["segmentation"])
    fields = form(project) | {"parameters": {"epoch": 3, "batch_size": 0, "seed": "x"}}
    answer = server.http.post("/tasks/", json=fields)
    assert answer.status_code == 400
    for word in ("epoch", "epochs", "batch_size", "seed"):
        assert word in answer.json()["error"]


def test_a_warm_start_needs_a_task_that_is_done(server: Server, project: Path) -> None:
    task = begin(server, project)["taskId"]
    server.http.post(f"/tasks/{task}/cancel")
    for given, words in (
        ("nope", "task 'nope' not found. Give the id of an existing task."), (task, f"task {task} has no model"),
        ("latest", "no model of a finished task"),
    ):  # fmt: skip
        for answer in (
            server.http.post("/", data=form(project, warmStart=given)),
            server.http.post("/tasks/", json=form(project) | {"warmStart": given}),
        ):
            assert answer.status_code == 400, answer.text
            assert words in answer.json()["error"]


def test_bad_images_are_left_out_and_listed(server: Server, project: Path) -> None:
    (project / "images" / "Digit_0" / "broken.png").write_bytes(b"no picture")
    task = begin(server, project)
    assert any("broken.png" in each["path"] for each in task["skipped"])
    server.http.post(f"/tasks/{task['taskId']}/cancel")


@pytest.mark.slow
def test_a_second_task_waits_and_one_on_the_same_folder_is_409(server: Server, project: Path, digits: Path) -> None:
    other = project.with_name(project.name + "-other")
    shutil.copytree(digits, other)
    first, second = begin(server, project, {"epochs": 500, "patience": 500}), begin(server, other)
    in_epoch(server, first["taskId"], 1)
    assert query(server, second["taskId"])["state"] == "pending"
    assert server.http.post("/", data=form(project)).status_code == 409
    tasks = server.http.get("/tasks/", params={"userId": "u1", "projectId": "p1"}).json()["tasks"]
    assert [task["taskId"] for task in tasks[:2]] == [second["taskId"], first["taskId"]]
    cancelled = server.http.post(f"/tasks/{second['taskId']}/cancel").json()
    assert cancelled["state"] == "cancelled"
    started_at = time.monotonic()
    cancelled = server.http.post(f"/tasks/{first['taskId']}/cancel").json()
    assert time.monotonic() - started_at < 8
    assert (cancelled["state"], cancelled["message"]) == ("cancelled", "cancelled")
    assert 0 < cancelled["progress"] < 100


@pytest.mark.slow
def test_a_cancelled_task_is_resumed_where_it_was_and_a_done_one_is_not(server: Server, project: Path) -> None:
    task = begin(server, project, {"epochs": 8})
    before = in_epoch(server, task["taskId"], 2)
    server.http.post(f"/tasks/{task['taskId']}/cancel")
    resumed = server.http.post(f"/tasks/{task['taskId']}/resume").json()
    assert resumed["state"] in ("pending", "processing")
    assert resumed["progress"] >= before["progress"]
    ended = finished(server, task["taskId"])
    assert ended["state"] == "done"
    assert ended["message"] == f"done: {ended['metrics']['verdict']}"
    output = server.http.get(f"/tasks/{task['taskId']}/output").text
    trained = [output.count(f"epoch {epoch} of 8: ") for epoch in range(1, 9)]
    assert trained == [2] * 8, "on a fold and on all images; both runs are in one output"
    assert server.http.post(f"/tasks/{task['taskId']}/resume").status_code == 409


@pytest.mark.slow
def test_a_killed_worker_continues_from_its_checkpoint_and_progress_never_goes_back(
    server: Server, project: Path
) -> None:
    task = begin(server, project, {"epochs": 8})
    before = in_epoch(server, task["taskId"], 3)
    psutil.Process(int(before["thread"].rpartition("-")[2])).kill()
    seen = [before["progress"]]
    revision = 0
    while (now := query(server, task["taskId"]))["state"] in ("pending", "processing"):
        seen.append(now["progress"])
        revision = server.http.get("/server/", params={"since": revision}).json()["result"]["revision"]
    assert now["state"] == "done", now
    assert seen == sorted(seen)
    output = server.http.get(f"/tasks/{task['taskId']}/output").text
    assert output.lower().count("fold 1: epoch 1 ") <= 1, "no epoch is trained twice"
    assert "continuing from the last checkpoint, since its worker died: " in output


@pytest.mark.slow
def test_a_killed_server_continues_with_the_task_after_its_restart(start: Start, digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(digits, folder)
    server = start(TFSERVE_ROOTS=str(tmp_path))
    task = begin(server, folder, {"epochs": 8})
    before = in_epoch(server, task["taskId"], 2)
    for process in server.processes():
        process.kill()
    server.process.wait(10)
    again = start(TFSERVE_ROOTS=str(tmp_path))
    assert query(again, task["taskId"])["progress"] >= before["progress"]
    assert finished(again, task["taskId"])["state"] == "done"


@pytest.mark.slow
def test_the_result_is_deployed_when_the_run_ends_if_requested(server: Server, project: Path, workspace: str) -> None:
    task = begin(server, project, deploy_to=workspace)
    assert finished(server, task["taskId"])["state"] == "done"
    server.wait(workspace, 0)
    assert (
        server.call("/get_status/", name=workspace)["deployment"]["path"] == query(server, task["taskId"])["modelPath"]
    )
    refused = server.http.post("/tasks/", json=form(project) | {"deploy_to": "nobody"})
    assert refused.status_code == 404


class _Receiver(BaseHTTPRequestHandler):
    received: list[Any] = []
    refuse = 1

    def do_POST(self) -> None:
        import json

        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if type(self).refuse > 0:
            type(self).refuse -= 1
            self.send_response(503)
        else:
            type(self).received.append(body)
            self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_the_operators_server_is_reported_of_every_state_and_again_when_it_failed(
    start: Start, digits: Path, tmp_path: Path, receiver: str
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(digits, folder)
    server = start("--callback-url", receiver, TFSERVE_ROOTS=str(tmp_path))
    task = begin(server, folder)
    assert finished(server, task["taskId"])["state"] == "done"
    deadline = time.monotonic() + 20
    while [each["state"] for each in _Receiver.received[-1:]] != ["done"]:
        assert time.monotonic() < deadline, _Receiver.received
        time.sleep(0.05)
    assert [each["state"] for each in _Receiver.received] == ["pending", "processing", "done"]
    assert all(each["taskId"] == task["taskId"] for each in _Receiver.received)


def test_older_clients_find_the_training_api_on_a_port_of_its_own(start: Start, tmp_path: Path) -> None:
    from tests.acceptance.test_daemon import free_port

    port = free_port()
    start("--training-port", str(port))
    answer = httpx.get(f"http://127.0.0.1:{port}/", params={"taskId": "x"})
    assert answer.json() == {"taskId": "x", "error": "cannot find task info"}
