"""Several trainings at once, in the order they came; and what an ordered stop of the server makes of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.conftest import Server
from tests.acceptance.training_calls import ENDLESS, begin, finished, in_epoch, query, when

Start = Callable[..., Server]


def copies(digits: Path, folder: Path, count: int) -> list[Path]:
    projects = [folder / f"project{number}" for number in range(count)]
    for project in projects:
        shutil.copytree(digits, project)
    return projects


def cancel(server: Server, task: Any) -> Any:
    return server.http.post(f"/tasks/{task['taskId']}/cancel").json()


@pytest.mark.slow
def test_as_many_run_as_there_are_train_workers_and_the_others_wait_in_their_order(
    start: Start, digits: Path, tmp_path: Path
) -> None:
    server = start("--train-workers", "2", TFSERVE_ROOTS=str(tmp_path))
    first, second, third, fourth = (begin(server, each, ENDLESS) for each in copies(digits, tmp_path, 4))
    running = [in_epoch(server, each["taskId"], 1) for each in (first, second)]
    assert [each["state"] for each in running] == ["processing", "processing"]
    assert running[0]["thread"] != running[1]["thread"]
    waiting = [query(server, each["taskId"]) for each in (third, fourth)]
    assert [(each["state"], each["thread"], each["progress"]) for each in waiting] == [("pending", "", 0)] * 2

    # A death is the matter of one task only.
    psutil.Process(int(running[0]["thread"].rpartition("-")[2])).kill()
    when(server, first["taskId"], lambda task: task["thread"] not in ("", running[0]["thread"]))
    untouched = query(server, second["taskId"])
    assert (untouched["state"], untouched["thread"]) == ("processing", running[1]["thread"])
    assert untouched["progress"] >= running[1]["progress"]

    assert cancel(server, second)["state"] == "cancelled"
    when(server, third["taskId"], lambda task: task["state"] == "processing")
    assert query(server, fourth["taskId"])["state"] == "pending"
    for each in (fourth, third, first):
        assert cancel(server, each)["state"] == "cancelled"


@pytest.mark.long
@pytest.mark.slow
def test_an_ordered_stop_puts_the_run_aside_and_is_not_one_of_its_attempts(
    start: Start, digits: Path, tmp_path: Path
) -> None:
    project, other = copies(digits, tmp_path, 2)
    server = start(TFSERVE_ROOTS=str(tmp_path))
    task, waiting = begin(server, project, {"epochs": 6}), begin(server, other)
    before = in_epoch(server, task["taskId"], 2)
    assert server.stop() == 0

    again = start(TFSERVE_ROOTS=str(tmp_path))
    now = when(again, task["taskId"], lambda task: task["state"] == "processing")
    assert now["progress"] >= before["progress"]
    assert query(again, waiting["taskId"])["state"] == "pending"
    assert again.http.get(f"/jobs/{now['jobId']}").json()["result"]["attempts"] == 1, "the stop does not count"
    ended = finished(again, task["taskId"])
    assert ended["state"] == "done", ended
    assert ended["metrics"]["epochs"] == 6
    assert again.http.get(f"/tasks/{task['taskId']}/output").text.count("fold 1: epoch 1 of 6") == 1
    assert finished(again, waiting["taskId"])["state"] == "done"


@pytest.mark.slow
def test_three_deaths_are_enough(start: Start, digits: Path, tmp_path: Path) -> None:
    (project,) = copies(digits, tmp_path, 1)
    server = start(TFSERVE_ROOTS=str(tmp_path))
    task = begin(server, project)
    half_written = project / "models" / f".{task['taskId']}.writing"
    killed = {""}
    for _ in range(3):
        worker = when(server, task["taskId"], lambda task: task["thread"] not in killed)["thread"]
        half_written.mkdir(parents=True, exist_ok=True)
        psutil.Process(int(worker.rpartition("-")[2])).kill()
        killed.add(worker)
    ended = when(server, task["taskId"], lambda task: "error" in task)
    assert ended["state"] == "done with error"
    assert "SIGKILL" in ended["error"]
    assert ended["progress"] < 100
    assert ended["message"] == "ended with an error"
    assert not half_written.exists()
    resumed = server.http.post(f"/tasks/{task['taskId']}/resume")
    assert resumed.status_code == 200, "whoever resumes it knows why"
    cancel(server, task)


@pytest.mark.slow
def test_a_training_that_is_ended_early_delivers_its_best_model(server: Server, digits: Path) -> None:
    project = server.roots / "projects" / "ended early"
    shutil.copytree(digits, project)
    task = begin(server, project, {"epochs": 60, "backbone": "compact"})["taskId"]
    in_epoch(server, task, 5)
    assert server.http.post(f"/tasks/{task}/finish").json()["state"] == "processing"
    ended = finished(server, task)
    assert ended["state"] == "done", ended
    output = server.http.get(f"/tasks/{task}/output").text
    assert "ended early, after" in output
    assert ended["metrics"]["accuracy"] > 0.8
    again = server.http.post(f"/tasks/{task}/finish")
    assert again.status_code == 409
    assert "is not training" in again.text
