"""Callbacks: every job that names a URL is sent there when it has ended, signed, until it is accepted."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Server
from tests.acceptance.model_jobs import LATER, Receiver, ended, receiver, rows_file, with_echo
from tests.protocols import echo


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(
        tmp_path_factory.mktemp("callbacks") / "data", "--callback-attempts", "3",
    )  # fmt: skip
    with_echo(running)
    yield running
    running.close()
    assert "Traceback" not in running.log, running.log


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def verified(server: Server, headers: dict[str, str], body: bytes) -> Any:
    """The body, after the check that the documentation describes."""
    secret = server.http.get("/callbacks/secret").json()["result"]["secret"]
    parts = dict(part.split("=", 1) for part in headers["x-tfserve-signature"].split(","))
    assert abs(time.time() - int(parts["t"])) < 60
    expected = hmac.new(secret.encode(), parts["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(expected, parts["v1"])
    return json.loads(body)


def delivered(server: Server, job_id: int) -> Any:
    """The callback of a job, once nothing is sent any more."""
    revision = 0
    while (found := ended(server, job_id)["callback"])["state"] == "waiting":
        query = {"since": revision, "wait": 1}
        revision = server.http.get("/server/", params=query).json()["result"]["revision"]
    return found


def test_every_kind_of_job_is_sent_with_a_signature(server: Server, hook: Receiver) -> None:
    url = f"{hook.url}/hook?a=1"
    server.call("/create_workspace/", name="w")
    path = echo.write(server.roots / "other.echo")
    submitted = [
        server.run("w", "x = 1", callback=url)["id"],
        server.run("w", "1 / 0", callback=url)["id"],
        server.call("/deploy/", name="w", path=str(path), timeout=60, callback=url)["id"],
        server.call("/predict/", name="w", fetches="x", feed_dict={"x": [[1, 2, 3]]}, timeout=60, callback=url)["id"],
        server.call("/clear/", name="w", timeout=60, callback=url)["id"],
        server.call("/undeploy/", name="w", timeout=60, callback=url)["id"],
        server.call("/batch/", name="m", input=str(rows_file(server.roots, 5)), timeout=60, callback=url)["id"],
    ]
    deferred = server.http.post(
        "/v1/models/m:predict", json={"instances": [[1, 2, 3]]}, headers={**LATER, "X-TFserve-Callback": url}
    )
    submitted.append(deferred.json()["job"])
    received = {}
    for _ in submitted:
        headers, body = hook.next()
        job = verified(server, headers, body)
        assert (headers["path"], headers["content-type"]) == ("/hook?a=1", "application/json")
        assert (headers["x-tfserve-job"], headers["x-tfserve-attempt"]) == (str(job["id"]), "1")
        received[job["id"]] = job
    assert sorted(received) == sorted(submitted)
    for job_id in submitted:
        assert delivered(server, job_id) == {
            "url": url, "state": "delivered", "attempts": 1, "last_status": 204
        }  # fmt: skip
        now = ended(server, job_id)
        sent = received[job_id]
        assert {**sent, "callback": now["callback"], "request": now["request"]} == now
    assert received[submitted[1]]["error"]["type"] == "ZeroDivisionError"
    assert received[submitted[6]]["done"] == 5
    assert received[submitted[7]]["result"] == {"predictions": [[1.0, 2.0, 3.0]]}
    assert hook.requests.empty()


def test_a_job_without_a_callback_is_as_before(server: Server) -> None:
    job = server.call("/clear/", name="m", timeout=60)
    assert "callback" not in job
    assert "callback" not in ended(server, job["id"])


def test_a_refused_callback_is_sent_again_until_it_is_accepted(server: Server) -> None:
    with receiver(500, 302) as hook:
        job = server.call("/clear/", name="m", timeout=60, callback=hook.url)["id"]
        attempts = [hook.next() for _ in range(3)]
        assert [headers["x-tfserve-attempt"] for headers, _ in attempts] == ["1", "2", "3"]
        assert len({body for _, body in attempts}) == 1
        for headers, body in attempts:
            assert verified(server, headers, body)["id"] == job
            assert headers["path"] == "/"  # a redirect is not followed
        assert delivered(server, job) == {
            "url": hook.url, "state": "delivered", "attempts": 3, "last_status": 204,
        }  # fmt: skip


def test_a_callback_is_given_up_after_the_last_attempt_or_when_the_receiver_is_gone(server: Server) -> None:
    with receiver(500, 500, 503) as hook, receiver(410) as gone:
        failing = server.call("/clear/", name="m", timeout=60, callback=hook.url)["id"]
        refusing = server.call("/clear/", name="m", timeout=60, callback=gone.url)["id"]
        found = delivered(server, failing)
        assert (found["state"], found["attempts"], found["last_status"]) == ("failed", 3, 503)
        found = delivered(server, refusing)
        assert (found["state"], found["attempts"], found["last_status"]) == ("failed", 1, 410)


def test_a_name_that_resolves_to_a_private_address_is_not_sent_to(tmp_path: Path, hook: Receiver) -> None:
    open_to_all = {"TFSERVE_AUTH": "off", "TFSERVE_ALLOW_UNAUTHENTICATED": "1"}
    server = Server(tmp_path / "data", host="0.0.0.0", environment=open_to_all)
    server.call("/create_workspace/", name="w")
    local = hook.url.replace("127.0.0.1", "localhost")
    assert server.refused("/clear/", name="w", callback=hook.url)[0] == 400
    job = server.call("/clear/", name="w", timeout=60, callback=local)["id"]
    found = delivered(server, job)
    assert (found["state"], found["attempts"], found["last_status"]) == ("failed", 1, None)
    assert "not a public address" in found["last_error"]
    assert hook.requests.empty()
    server.close()


def test_tokens_do_not_reach_other_servers_of_the_machine(start: Callable[..., Server], hook: Receiver) -> None:
    """A server on loopback with tokens has clients on other machines, by a proxy. Names are resolved, too."""
    server = start()
    server.call("/create_workspace/", name="w")
    local = hook.url.replace("127.0.0.1", "localhost")
    waiting = server.call("/push_job/", name="w", job="import time; time.sleep(1)", type=1, timeout=0, callback=local)
    token = server.call("/tokens/", name="predictor", scopes=["submit"])["token"]
    server.http.headers["X-API-Key"] = token
    assert server.refused("/clear/", name="w", callback=hook.url)[0] == 400
    for job in (waiting["id"], server.call("/clear/", name="w", timeout=60, callback=local)["id"]):
        found = delivered(server, job)
        assert (found["state"], found["last_status"]) == ("failed", None)
        assert "callback_allow" in found["last_error"]
    assert hook.requests.empty()


@pytest.mark.slow
def test_callbacks_survive_a_killed_server(start: Callable[..., Server]) -> None:
    server = start()
    server.call("/create_workspace/", name="w")
    with receiver(*[500] * 2) as hook:
        refused = server.call("/clear/", name="w", timeout=60, callback=hook.url)["id"]
        hook.next()
        lost = server.call("/push_job/", name="w", job="while True: pass", type=1, timeout=0, callback=hook.url)["id"]
        server.stop(signal.SIGKILL)
        again = start()
        received = []
        while {refused, lost} != {job["id"] for status, job in received if status}:
            headers, body = hook.next()
            received.append((int(headers["x-tfserve-attempt"]), verified(again, headers, body)))
        assert next(job["state"] for _, job in received if job["id"] == lost) == "lost"
        assert delivered(again, refused)["state"] == "delivered"
        assert delivered(again, lost)["state"] == "delivered"
