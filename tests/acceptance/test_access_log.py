"""The access log has a line for every request, and every answer has a request id."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.acceptance.conftest import REPOSITORY, Server
from tests.acceptance.test_metrics import deploy_echo

Start = Callable[..., Server]

FRESH = re.compile(r"[0-9a-f]{12}-[0-9a-f]+")
DEADLINE_S = 20.0


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith('{"time":')]


def wait_for_path(file: Path, path: str) -> None:
    """Returns when there is a line about a request for this path."""
    deadline = time.monotonic() + DEADLINE_S
    while not (file.exists() and f'"path":"{path}"' in file.read_text()):
        assert time.monotonic() < deadline, f"there is no line about {path} in {file}"
        time.sleep(0.02)


def test_a_line_reports_all_about_a_request(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    server = start("--access-log", str(log))
    deploy_echo(server, "m")
    body = b'{"instances": [[1, 2]]}'
    answer = server.http.post("/v1/models/m:predict", content=body, headers={"X-Request-Id": "order-66"})
    assert answer.headers["x-request-id"] == "order-66"
    refused = server.http.post("/v1/models/m:predict", content=b"{}")
    assert refused.status_code == 400
    server.http.get('/%0a{"time":"forged"}%00')
    server.stop()
    by_id = {line["request_id"]: line for line in lines_of(log.read_text())}
    line = by_id["order-66"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("time"))
    assert line.pop("client").startswith("127.0.0.1:")
    assert 0 < line.pop("duration_ms") < 10_000
    assert line == {
        "request_id": "order-66", "trace_id": None, "method": "POST", "path": "/v1/models/m:predict", "protocol": "v1",
        "model": "m", "version": 1, "status": 200, "error": None,
        "bytes_in": len(body), "bytes_out": len(answer.content),
    }  # fmt: skip
    line = by_id[refused.headers["x-request-id"]]
    assert (line["status"], line["error"], line["model"], line["version"]) == (400, "invalid", "m", 1)
    assert '/\n{"time":"forged"}\x00' in [each["path"] for each in by_id.values()]
    assert len(log.read_text().splitlines()) == len(by_id), "one line for each request, whatever its path"


def test_lines_go_to_a_new_file_when_the_old_one_was_moved(start: Start, tmp_path: Path) -> None:
    log, old = tmp_path / "access.log", tmp_path / "access.log.1"
    server = start("--access-log", str(log), "--web-processes", "2")
    server.http.get("/before")
    wait_for_path(log, "/before")
    log.rename(old)
    for _ in range(8):
        httpx.get(f"{server.url}/after")
    wait_for_path(log, "/after")
    server.stop()
    assert [line["path"] for line in lines_of(log.read_text())] == ["/after"] * 8
    assert "/after" not in old.read_text()


def test_standard_output_is_a_log_too(start: Start) -> None:
    server = start("--access-log", "-")
    answer = server.http.get("/nothing")
    server.stop()
    server.close()
    (line,) = lines_of(server.log)
    assert (line["path"], line["status"], line["error"]) == ("/nothing", 404, "not_found")
    assert line["request_id"] == answer.headers["x-request-id"]


def test_a_log_that_cannot_be_written_is_reported_at_the_start(tmp_path: Path) -> None:
    command = [sys.executable, "manage.py", "runserver", "0", "--data-dir", str(tmp_path / "data")]
    wrong = subprocess.run(
        [*command, "--access-log", str(tmp_path / "nowhere" / "log")],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert wrong.returncode == 1
    assert "nowhere/log" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_every_answer_has_a_request_id(server: Server) -> None:
    for given in ("a", "x" * 128, "~!#$%&'*+-.^_`|"):
        assert server.http.get("/get_workspace/", headers={"X-Request-Id": given}).headers["x-request-id"] == given
    for given in ("", "a b", "x" * 129, "\xe9"):
        answer = server.http.get("/v1/models", headers={"X-Request-Id": given.encode("latin-1")})
        assert FRESH.fullmatch(answer.headers["x-request-id"])
    answers = [
        server.http.get("/"),
        server.http.get("/static/pages/icon.svg"),
        server.http.get("/no/such/thing"),
        server.http.get("/v1/models/no-such-model"),
        server.http.post("/", headers={"Origin": "http://elsewhere"}),
        server.http.get("/metrics", headers={"Host": "elsewhere"}),
    ]
    assert [each.status_code for each in answers] == [200, 200, 404, 404, 403, 403]
    ids = {each.headers["x-request-id"] for each in answers}
    assert len(ids) == len(answers)
    assert all(FRESH.fullmatch(each) for each in ids)


def test_what_is_no_http_gets_an_id_that_stands_in_the_log(start: Start) -> None:
    server = start()
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=20) as sock:
        sock.sendall(b"this is no HTTP\r\n\r\n")
        answer = sock.makefile("rb").read().decode()
    assert answer.startswith("HTTP/1.1 400 ")
    request_id = re.search(r"x-request-id: (\S+)\r\n", answer)
    assert request_id
    server.stop()
    server.close()
    assert f"[request {request_id[1]}]" in server.log
