"""What many calls at once, deaths and restarts make of training tasks."""

from __future__ import annotations

import json
import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.acceptance.conftest import Server, command
from tests.acceptance.test_daemon import free_port
from tests.acceptance.training_calls import begin, form

Start = Callable[..., Server]


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which every run just waits, so that each of its workers examines a project."""
    running = Server(tmp_path_factory.mktemp("waiting") / "data", "--train-workers", "0")
    yield running
    running.close()


@pytest.fixture
def project(waiting: Server, digits: Path, request: pytest.FixtureRequest) -> Path:
    folder = waiting.roots / request.node.name[:60]
    shutil.copytree(digits, folder)
    return folder


def examining(server: Server) -> list[psutil.Process]:
    return [each for each in server.processes() if "tfserve.worker" in command(each)]


@pytest.mark.slow
def test_of_many_resumes_and_starts_at_once_one_is_done_and_the_others_are_409(waiting: Server, project: Path) -> None:
    server = waiting
    task = begin(server, project)["taskId"]
    server.http.post(f"/tasks/{task}/cancel")

    def resume() -> httpx.Response:
        return httpx.post(f"{server.url}/tasks/{task}/resume", timeout=60)

    def begin_another() -> httpx.Response:
        return httpx.post(f"{server.url}/", data=form(project), timeout=60)

    for calls in ([resume] * 8, [resume, begin_another] * 4):
        with ThreadPoolExecutor(8) as threads:
            answers = [each.result() for each in [threads.submit(call) for call in calls]]
        assert sorted(each.status_code for each in answers) == [200] + [409] * 7, [each.text for each in answers]
        (begun,) = (each.json()["taskId"] for each in answers if each.status_code == 200)
        jobs = server.http.get("/jobs/", params={"kind": "train", "limit": 1000}).json()["result"]["jobs"]
        assert len([each for each in jobs if each["state"] in ("queued", "running")]) == 1
        server.http.post(f"/tasks/{begun}/cancel")


def test_a_worker_that_dies_in_an_examination_is_reported_and_the_folder_is_free_again(
    waiting: Server, project: Path
) -> None:
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(waiting.http.post, "/", data=form(project))
        while not (workers := examining(waiting)):
            assert not asked.done()
        workers[0].kill()
        answer = asked.result()
    assert answer.status_code == 500
    assert "SIGKILL" in answer.json()["error"]
    assert waiting.http.post("/", data=form(project)).status_code == 200


def test_a_few_projects_are_examined_at_a_time_and_the_others_wait(waiting: Server, project: Path) -> None:
    copies = [project.with_name(f"{project.name}{number}") for number in range(10)]
    for folder in copies:
        for label in (1, 2):
            shutil.copytree(project / "images" / f"Digit_{label}", folder / "images" / str(label))
    with ThreadPoolExecutor(len(copies)) as threads:
        asked = [threads.submit(httpx.post, f"{waiting.url}/", data=form(each), timeout=60) for each in copies]
        most = 0
        while not all(each.done() for each in asked):
            most = max(most, len(examining(waiting)))
    assert [each.result().status_code for each in asked] == [200] * len(copies)
    assert 1 < most <= 4


def test_a_refused_project_leaves_nothing_behind(waiting: Server, project: Path) -> None:
    before = set((waiting.data_dir / "training").glob("*"))
    shutil.rmtree(project / "images" / "Digit_3")
    (project / "images" / "Digit_3").mkdir()
    assert waiting.http.post("/", data=form(project)).status_code == 400
    assert set((waiting.data_dir / "training").glob("*")) == before


class Receiver(HTTPServer):
    """The operator's server; what came is in `received`."""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), ReceiverHandler)
        self.received: queue.Queue[Any] = queue.Queue()


class ReceiverHandler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.received.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.mark.slow
def test_the_next_start_makes_up_for_callbacks_that_nobody_took(start: Start, digits: Path, tmp_path: Path) -> None:
    port = free_port()
    options = ("--train-workers", "0", "--callback-url", f"http://127.0.0.1:{port}/hook")
    first = start(*options, TFSERVE_ROOTS=str(tmp_path))
    waits, cancelled = (
        begin(first, Path(shutil.copytree(digits, tmp_path / name)))["taskId"] for name in ("waits", "cancelled")
    )
    first.http.post(f"/tasks/{cancelled}/cancel")
    assert first.stop() == 0

    with Receiver(port) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.01,))
        thread.start()
        try:
            second = start(*options, TFSERVE_ROOTS=str(tmp_path))
            told = [receiver.received.get(timeout=20) for _ in range(2)]
            assert [(each["taskId"], each["state"]) for each in told] == [(waits, "pending"), (cancelled, "cancelled")]
            assert second.stop() == 0
            third = start(*options, TFSERVE_ROOTS=str(tmp_path))
            third.http.post(f"/tasks/{waits}/cancel")
            last = receiver.received.get(timeout=20)
            assert (last["taskId"], last["state"]) == (waits, "cancelled"), "no state is told twice"
        finally:
            receiver.shutdown()
            thread.join()
