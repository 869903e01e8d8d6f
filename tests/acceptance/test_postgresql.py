"""The same code on PostgreSQL: a real server of its own, started here."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import REPOSITORY, Server
from tests.acceptance.model_jobs import LATER, batch_output, ended, receiver, rows_file, with_echo
from tests.acceptance.postgresql_server import NotInstalled, PostgreSQL, private_server
from tests.acceptance.standby import Standby, takes_over
from tests.acceptance.test_start_and_stop import follow_until, run_server
from tests.acceptance.training_calls import digit_project

Start = Callable[..., Server]


@pytest.fixture(scope="module")
def database_url(postgresql: PostgreSQL) -> str:
    return postgresql.url


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    """A fresh PostgreSQL; the test is skipped where its programs are not installed."""
    try:
        with private_server() as running:
            yield running
    except NotInstalled as missing:
        pytest.skip(str(missing))


@pytest.mark.slow
def test_jobs_variables_and_restarts_work_on_postgresql(start: Start, database_url: str) -> None:
    server = start(TFSERVE_DATABASE_URL=database_url)
    server.call("/create_workspace/", name="größe")
    for number in range(30):
        job = server.run("größe", f"x = {number}; print('nul \\0 ☃')")
        assert (job["job"], job["variable"], job["stdout"]) == (number, {"x": number}, "nul \0 ☃\n")
    assert "TFSERVE_DATABASE_URL" not in server.run("größe", "import os\nkeys = sorted(os.environ)")["variable"]["keys"]
    server.run("größe", "print('begun', flush=True)\nwhile True: pass", timeout=0)
    server.run("größe", "y = 1", timeout=0)
    follow_until(server, "größe", 31, "begun")
    for process in server.processes():
        process.kill()
    server.process.wait(10)

    again = start(TFSERVE_DATABASE_URL=database_url)
    assert again.wait("größe", 32)["state"] == "succeeded"
    assert again.call("/get_result/", name="größe") == [True] * 31 + [False, True]
    assert again.http.get("/jobs/", params={"state": "lost"}).json()["result"]["total"] == 1
    assert again.call("/destroy_workspace/") is True


@pytest.mark.slow
def test_deferred_predictions_batches_and_callbacks_work_on_postgresql(
    start: Start, database_url: str, tmp_path: Path
) -> None:
    server = start(TFSERVE_DATABASE_URL=database_url)
    with_echo(server)
    with receiver(500) as hook:
        headers = {**LATER, "X-TFserve-Callback": hook.url, "Idempotency-Key": "one"}
        body = {"instances": [[1, 2, 3]]}
        first, second = (
            server.http.post("/v1/models/m:predict", json=body, headers=headers).json()["job"] for _ in range(2)
        )
        assert first == second
        batch = server.call("/batch/", name="m", input=str(rows_file(tmp_path, 50_000)), callback=hook.url)
        for process in server.processes():
            process.kill()
        server.process.wait(10)
        again = start(TFSERVE_DATABASE_URL=database_url)
        assert ended(again, first)["result"] == {"predictions": [[1.0, 2.0, 3.0]]}
        assert ended(again, batch["id"])["done"] == 50_000
        received = {hook.next()[0]["x-tfserve-job"] for _ in range(3)}
        assert received == {str(first), str(batch["id"])}
    assert len(batch_output(again, batch["id"])) == 50_000
    assert again.http.get("/jobs/", params={"kind": "batch"}).json()["result"]["total"] == 1
    assert again.call("/destroy_workspace/") is True


def test_a_database_that_went_away_refuses_and_returns(start: Start, database_url: str) -> None:
    server = start(TFSERVE_DATABASE_URL=database_url)
    server.call("/create_workspace/", name="a")
    _end_connections(database_url)
    assert server.http.get("/jobs/").status_code == 200
    statuses = [
        server.http.post("/push_job/", json={"name": "a", "job": "x = 1", "type": 1}).status_code for _ in range(3)
    ]
    assert statuses[-1] == 200
    assert server.call("/destroy_workspace/") is True


@pytest.mark.slow
def test_a_second_server_on_the_same_database_refuses_and_names_the_first(
    start: Start, database_url: str, tmp_path: Path
) -> None:
    server = start(TFSERVE_DATABASE_URL=database_url)
    second = run_server("127.0.0.1:0", "--data-dir", str(tmp_path / "other"), TFSERVE_DATABASE_URL=database_url)
    assert (second.returncode, len(second.stderr.splitlines())) == (1, 1), second.stderr
    assert f"pid {server.pid}" in second.stderr
    server.call("/create_workspace/", name="mine")
    server.call("/destroy_workspace/", name="mine")
    server.process.kill()
    server.process.wait(10)
    again = start(data_dir=tmp_path / "third", TFSERVE_DATABASE_URL=database_url)
    assert again.http.get("/v2/health/ready").status_code == 200


@pytest.mark.slow
def test_a_standby_takes_over_the_database(
    start: Start, database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = start(TFSERVE_DATABASE_URL=database_url)
    standby = Standby(tmp_path / "other", TFSERVE_DATABASE_URL=database_url)
    request.addfinalizer(standby.close)
    takes_over(server, standby)


@pytest.mark.slow
def test_a_server_whose_database_was_taken_by_another_writes_nothing_more(
    start: Start, database_url: str, tmp_path: Path
) -> None:
    import psycopg

    server = start(TFSERVE_DATABASE_URL=database_url)
    server.call("/create_workspace/", name="before")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE control_serverstate SET owner = 'another server'")
    _end_connections(database_url)
    status, sentence = server.refused("/create_workspace/", name="after")
    assert (status, "Another TFserve writes this database" in sentence) == (503, True), sentence
    assert server.http.get("/v2/health/ready").status_code == 503
    assert server.stop() == 0
    with psycopg.connect(database_url, autocommit=True) as connection:
        assert connection.execute("SELECT name FROM control_workspace").fetchall() == [("before",)]
        connection.execute("DELETE FROM control_workspace")


def test_while_postgresql_is_down_everything_answers_503_with_one_log_line_and_then_continues(
    start: Start, postgresql: PostgreSQL
) -> None:
    server = start(TFSERVE_DATABASE_URL=postgresql.url)
    server.call("/create_workspace/", name="a")
    server.run("a", "x = 1")
    postgresql.stop()
    try:
        for _ in range(10):
            answers = [
                server.http.post("/push_job/", json={"name": "a", "job": "x = 2", "type": 1}),
                server.http.post("/create_workspace/", json={"name": "b"}),
                server.http.post("/get_result/", json={"name": "a"}),
                server.http.get("/jobs/"),
                server.http.get("/jobs/1"),
                server.http.get("/tasks/"),
                server.http.get("/pages/jobs/1/"),
                server.http.get("/", headers={"Accept": "text/html"}),
            ]
            assert {(answer.status_code, answer.headers.get("retry-after")) for answer in answers} == {(503, "1")}
        assert server.http.get("/v2/health/ready").status_code == 503
        assert server.http.get("/v2/health/live").status_code == 200
    finally:
        postgresql.start()
    assert server.http.get("/v2/health/live").status_code == 200
    deadline = time.monotonic() + 10
    while server.http.get("/v2/health/ready").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert server.run("a", "y = x + 1")["variable"] == {"x": 1, "y": 2}
    assert "Traceback" not in server.log
    lines = [line for line in server.log.splitlines() if " ERROR " in line]
    assert len(lines) == 2, lines  # the supervisor writes, the web process reads
    server.call("/destroy_workspace/")


def _end_connections(database_url: str) -> None:
    import psycopg

    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")


@pytest.mark.slow
def test_text_with_nul_characters_is_stored_and_searched(start: Start, database_url: str) -> None:
    """PostgreSQL refuses it in every statement."""
    server = start(TFSERVE_DATABASE_URL=database_url)
    searches = ("/tasks/?projectId=%00", "/?taskId=a%00", "/pages/jobs/?q=%00", "/pages/trainings/?q=a%00b")
    statuses = [server.http.get(each, headers={"Accept": "text/html"}).status_code for each in searches]
    assert statuses == [200, 404, 200, 200]
    project = server.roots / "pets"
    (project / "images").mkdir(parents=True)
    for number, image in enumerate(sorted(digit_project(server.roots / "digits", per_class=2).rglob("*.png"))):
        image.rename(project / "images" / f"{number}.png")
    labels = {f"{number}.png": ("c\0at", "dog")[number % 2] for number in range(20)}
    (project / "labels.json").write_text(json.dumps(labels))
    form = {"projectDir": str(project), "trainType": "classification", "userId": "a\0b", "projectId": "p"}
    started = server.http.post("/", data=form)
    assert started.status_code == 200, started.text
    assert server.http.get("/tasks/", params={"userId": "a\0b"}).json()["total"] == 1
    assert server.http.post(f"/tasks/{started.json()['taskId']}/cancel").status_code == 200
    assert "Traceback" not in server.log


@pytest.mark.slow
def test_a_data_folder_is_not_used_without_its_database(start: Start, database_url: str) -> None:
    server = start(TFSERVE_DATABASE_URL=database_url)
    server.stop()
    commands = (("token", "create", "x", "--scope", "predict"), ("backup", str(server.roots / "copy.tar")))
    for words in commands:
        command = [sys.executable, "-m", "tfserve.cli", *words, "--data-dir", str(server.data_dir)]
        refused = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
        assert (refused.returncode, "belongs to a server on PostgreSQL" in refused.stderr) == (1, True), refused
    refused = run_server("127.0.0.1:0", TFSERVE_DATA_DIR=str(server.data_dir))
    assert (refused.returncode, "belongs to a server on PostgreSQL" in refused.stderr) == (1, True), refused
