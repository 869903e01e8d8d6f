"""What many calls at once, deaths and restarts make of training tasks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.acceptance.conftest import Server
from tests.acceptance.training_calls import begin, form

Start = Callable[..., Server]


def test_of_many_resumes_and_starts_at_once_one_is_done_and_the_others_are_409(
    start: Start, digits: Path, tmp_path: Path
) -> None:
    server = start("--no-warm-spare", "--train-workers", "0", TFSERVE_ROOTS=str(tmp_path))  # every run just waits
    project = tmp_path / "project"
    shutil.copytree(digits, project)
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
