"""A database that goes away, is replaced or can't be used, and clients that wait while the server stops."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import REPOSITORY, Server
from tests.acceptance.test_start_and_stop import follow_until, run_server

Start = Callable[..., Server]


def in_background(send: Callable[[], httpx.Response]) -> tuple[threading.Thread, list[httpx.Response]]:
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(send()))
    thread.start()
    return thread, answers


def wait_until(condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "suffix", ["", pytest.param("-wal", marks=pytest.mark.slow), pytest.param("-shm", marks=pytest.mark.slow)]
)
def test_nothing_is_acknowledged_once_a_database_file_is_deleted(start: Start, suffix: str) -> None:
    server = start()
    server.call("/create_workspace/", name="a")
    assert server.http.get("/v2/health/ready").status_code == 200
    file = server.data_dir / f"tfserve.sqlite3{suffix}"
    kept = file.rename(server.data_dir / "kept") if suffix == "" else file.unlink()

    answer = server.http.post("/create_workspace/", json={"name": "b"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "was deleted" in answer.json()["result"]
    assert server.http.post("/push_job/", json={"name": "a", "job": "x = 1", "type": 1}).status_code == 503
    assert server.http.get("/v2/health/ready").status_code == 503
    assert server.http.get("/v2/health/live").status_code == 200
    assert server.log.count("nothing is acknowledged any more") == 1
    if kept is not None:
        assert not file.exists(), "an empty database was put in the place of the lost one"
        kept.rename(file)
        wait_until(lambda: server.http.get("/v2/health/ready").status_code == 200)
        server.call("/create_workspace/", name="c")
    assert server.stop() == 0
    assert "Traceback" not in server.log


@pytest.mark.sqlite
@pytest.mark.slow
def test_nothing_is_acknowledged_once_the_database_is_replaced(start: Start) -> None:
    server = start()
    server.call("/create_workspace/", name="a")
    file = server.data_dir / "tfserve.sqlite3"
    shutil.copy(file, file.with_name("copy"))
    file.with_name("copy").replace(file)
    status, sentence = server.refused("/create_workspace/", name="b")
    assert (status, "was replaced" in sentence) == (503, True)
    assert server.http.get("/v2/health/ready").status_code == 503


@pytest.mark.sqlite
def test_a_log_out_that_can_not_be_recorded_clears_the_cookie_and_says_that_copies_are_valid(start: Start) -> None:
    server = start(TFSERVE_AUTH="on")
    code = re.search(r"/pages/password/\?code=(\S+)", server.log)
    assert code
    with httpx.Client(base_url=server.url, headers={"Accept": "text/html", "Origin": server.url}, timeout=60) as page:
        page.get(code[0])
        csrf = {"csrfmiddlewaretoken": page.cookies["tfserve_csrf"]}
        secret = "long enough for this"
        page.post("/pages/password/", data={**csrf, "code": code[1], "password": secret, "again": secret})
        page.post("/pages/login/", data={**csrf, "username": "admin", "password": secret})
        assert page.cookies["tfserve_session"]
        csrf = {"csrfmiddlewaretoken": page.cookies["tfserve_csrf"]}
        (server.data_dir / "tfserve.sqlite3").rename(server.data_dir / "kept")
        shown = page.get("/pages/workspaces/")
        assert (shown.status_code, shown.headers["retry-after"]) == (503, "1")
        assert page.get("/jobs/", headers={"Accept": "application/json"}).status_code == 503
        again = page.post("/pages/login/", data={**csrf, "username": "admin", "password": secret})
        assert again.status_code == 503
        csrf = {"csrfmiddlewaretoken": page.cookies["tfserve_csrf"]}  # a log-in renews it
        refused = page.post("/pages/logout/", data=csrf)
        assert refused.status_code == 503
        assert "You are logged out in this browser" in refused.text
        assert "tfserve_session" not in page.cookies
    (server.data_dir / "kept").rename(server.data_dir / "tfserve.sqlite3")
    assert "Traceback" not in server.log


def corrupt(file: Path) -> None:
    file.write_bytes(b"SQLite format 3\0" + os.urandom(8000))


def no_database(file: Path) -> None:
    file.write_text("this is a letter, not a database" * 400)


def newer(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute(
        "INSERT INTO django_migrations (app, name, applied) VALUES ('control', '9999_later', '2030-01-01')"
    )
    connection.commit()
    connection.close()


def folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "spoil",
    [corrupt, *(pytest.param(each, marks=pytest.mark.slow) for each in (no_database, newer, folder_instead))],
)
def test_a_database_that_can_not_be_used_is_reported_in_one_sentence(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    data = tmp_path / "data"
    environment = {"TFSERVE_DATA_DIR": str(data)}
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"], cwd=REPOSITORY, check=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    spoil(data / "tfserve.sqlite3")
    refused = run_server("127.0.0.1:0", **environment)
    assert refused.returncode == 1
    assert refused.stderr.startswith("tfserve: The database ")
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("url", ["postgresql://x:secret@127.0.0.1:1/x"])
def test_a_postgresql_that_does_not_answer_is_reported_without_its_password(tmp_path: Path, url: str) -> None:
    pytest.importorskip("psycopg")
    refused = run_server("127.0.0.1:0", "--data-dir", str(tmp_path / "data"), TFSERVE_DATABASE_URL=url)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1), refused.stderr
    assert "127.0.0.1" in refused.stderr
    assert "secret" not in refused.stderr


def test_too_low_a_limit_of_open_files_is_reported_in_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"ulimit -n 64; exec {sys.executable} manage.py runserver :0 --data-dir {tmp_path}/data"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "ulimit -n" in done.stderr


def test_a_deleted_lock_file_does_not_let_a_second_server_in(start: Start) -> None:
    server = start()
    (server.data_dir / "server.lock").unlink()
    second = run_server("127.0.0.1:0", "--data-dir", str(server.data_dir))
    assert (second.returncode, len(second.stderr.splitlines())) == (1, 1)
    assert f"pid {server.pid}" in second.stderr
    server.call("/create_workspace/", name="a")
    assert server.stop() == 0
    assert "Traceback" not in server.log


def test_clients_that_wait_for_queued_jobs_learn_that_they_run_after_the_restart(start: Start, tmp_path: Path) -> None:
    server = start("--drain-s", "2")
    server.call("/create_workspace/", name="a")
    script = "print('begun', flush=True)\nimport time\ntime.sleep(1000)"
    server.call("/push_job/", name="a", job=script, type=1, timeout=0)
    follow_until(server, "a", 0, "begun")
    model = server.roots / "m.echo"
    model.write_text("x")
    calls: list[tuple[str, dict[str, Any]]] = [
        ("/push_job/", {"job": "x = 1", "type": 1}), ("/clear/", {}), ("/deploy/", {"path": str(model)}),
        ("/predict/", {"fetches": "y"}), ("/undeploy/", {}),
    ]  # fmt: skip
    waiting = []
    for number, (path, fields) in enumerate(calls, start=1):
        url, body = f"{server.url}{path}", {"name": "a", "timeout": 60, **fields}
        waiting.append(in_background(lambda url=url, body=body: httpx.post(url, json=body, timeout=60)))
        wait_until(lambda number=number: server.call("/get_job/", name="a") == number)  # in this order
    following = threading.Event()

    def followed() -> httpx.Response:
        url, headers = f"{server.url}/jobs/2/output", {"Accept": "text/event-stream"}
        with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
            following.set()
            answer.read()
            return answer

    follow = in_background(followed)
    assert following.wait(30)
    revision = server.http.get("/server/").json()["result"]["revision"]
    server.process.send_signal(signal.SIGTERM)
    ids = set()
    for thread, answers in waiting:
        thread.join(30)
        answer = answers[0]
        assert (answer.status_code, answer.json()["request_result"]) == (503, False), answer.text
        assert "will run after the restart" in answer.json()["result"]
        assert int(answer.headers["retry-after"]) >= 1
        ids.add(answer.json()["error"]["detail"]["id"])
    assert ids == {2, 3, 4, 5, 6}
    follow[0].join(30)
    assert follow[1][0].status_code == 200
    assert "event: stopping" in follow[1][0].text
    assert httpx.get(f"{server.url}/server/?since={revision}&wait=60", timeout=20).status_code in (200, 503)
    assert server.process.wait(30) == 0
    assert "Traceback" not in server.log

    again = start()
    assert again.wait("a", 1)["state"] == "succeeded"
    assert again.http.get("/jobs/1").json()["result"]["state"] == "lost"
