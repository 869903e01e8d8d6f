"""Tokens, scopes and log-in, as clients and administrators meet them."""

from __future__ import annotations

import html
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import databases
from tests.acceptance.conftest import REPOSITORY, Server
from tests.raw_http import Connection

PASSWORD = "correct horse battery staple"


def tfserve(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tfserve.cli", *arguments, "--data-dir", str(data_dir)]
    environment = {**os.environ, **databases.settings(data_dir)}
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False, env=environment
    )


def local_url(server: Server) -> str:
    return server.url.replace("0.0.0.0", "127.0.0.1")


def token(server: Server, name: str, *scopes: str, workspaces: list[str] | None = None) -> str:
    """Makes a token with the local one, as the command line does."""
    local = (server.data_dir / "local_token").read_text()
    fields = {"name": name, "scopes": scopes, "workspaces": workspaces}
    made = httpx.post(f"{local_url(server)}/tokens/", json=fields, headers={"X-API-Key": local})
    assert made.status_code == 200, made.text
    secret: str = made.json()["result"]["token"]
    return secret


def get(server: Server, number: int, headers: Any = None) -> httpx.Response:
    """A request from an address of its own: the failures of one address slow down its next ones."""
    transport = httpx.HTTPTransport(local_address=f"127.0.1.{number}")
    with httpx.Client(base_url=server.url, timeout=60, transport=transport) as client:
        return client.get("/v2", headers=headers)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with two web processes, as a revocation must reach both."""
    data_dir = tmp_path_factory.mktemp("access") / "data"
    made = Server(data_dir, "--auth", "on", "--web-processes", "2")
    yield made
    made.close()


@pytest.fixture(scope="module")
def admin(server: Server) -> Iterator[httpx.Client]:
    secret = token(server, "root", "admin")
    with httpx.Client(base_url=server.url, headers=bearer(secret), timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def shop(server: Server, admin: httpx.Client) -> Iterator[dict[str, httpx.Client]]:
    """Clients by scope, restricted to the workspace `shop`; `garden` is another."""
    for name in ("shop", "garden"):
        assert admin.post("/create_workspace/", json={"name": name}).status_code == 200
    clients = {}
    for scope in ("predict", "submit", "train"):
        headers = bearer(token(server, f"shop-{scope}", scope, workspaces=["shop"]))
        clients[scope] = httpx.Client(base_url=server.url, timeout=60, headers=headers)
    yield clients
    for client in clients.values():
        client.close()


# --- who gets in


ROUTES = [
    ("GET", "/"), ("POST", "/"), ("GET", "/?taskId=x"), ("GET", "/pages/jobs/1/"), ("GET", "/pages/events"),
    ("GET", "/metrics"), ("GET", "/monitoring/prometheus/metrics"), ("GET", "/openapi.json"), ("GET", "/jobs/"),
    ("POST", "/push_job/"), ("POST", "/predict/"), ("POST", "/destroy/"), ("GET", "/tasks/"), ("POST", "/tasks/"),
    ("GET", "/v1/models"), ("POST", "/v1/models/m:predict"), ("GET", "/v2"), ("POST", "/v2/models/m/infer"),
    ("POST", "/v2/repository/index"), ("GET", "/tokens/"), ("POST", "/tokens/"), ("POST", "/password_link/"),
    ("GET", "/nothing"), ("DELETE", "/jobs/1"), ("PUT", "/v1/models/m"), ("HEAD", "/v2"), ("HEAD", "/jobs/"),
    ("GET", "/static/../jobs/"), ("GET", "/v2/health/../models"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_answers_without_a_token(server: Server, method: str, path: str) -> None:
    answer = server.http.request(method, path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    if method != "HEAD":
        assert "token" in answer.json().get("error", answer.text) or "token" in answer.text


@pytest.mark.parametrize("path", ["/nothing", "/pages/nothing/", "/jobs/1", "/v1/models", "/tasks/?limit=3"])
def test_a_browser_without_a_session_gets_the_form_that_leads_back_to_any_path(server: Server, path: str) -> None:
    answer = server.http.get(path, headers={"Accept": "text/html,application/xhtml+xml"})
    assert (answer.status_code, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert f'name="next" value="{html.escape(path)}"' in answer.text
    assert "Content-Security-Policy" in answer.headers
    posted = server.http.post(path, headers={"Accept": "text/html"})
    assert posted.status_code == 401
    assert ("text/html" in posted.headers["content-type"]) is path.startswith("/pages/")


WRONG = [
    {"Authorization": "Bearer tfs_" + "A" * 43}, {"Authorization": "Bearer x"}, {"Authorization": "Basic YTpi"},
    {"Authorization": "Bearer " + "x" * 8000}, {"X-API-Key": ""}, {"X-API-Key": "\xff"},
    {"Authorization": "tfs_"}, {"X-API-Key": "' OR 1=1 --"},
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_credentials_are_refused_and_never_logged(server: Server, number: int) -> None:
    headers = {name: value.encode("latin-1") for name, value in WRONG[number].items()}
    answer = get(server, number + 1, headers)
    assert answer.status_code == 401
    secret = WRONG[number].get("Authorization", "").removeprefix("Bearer ")
    assert len(secret) < 10 or secret not in server.log


def test_who_guesses_waits_longer_and_longer(server: Server) -> None:
    """Over one connection, because each process counts for itself."""
    transport = httpx.HTTPTransport(local_address="127.0.1.99")
    with httpx.Client(base_url=server.url, timeout=60, transport=transport) as client:
        answers = [client.get("/v2", headers=bearer("guess")) for _ in range(8)]
        assert {answer.status_code for answer in answers} == {401}
        assert answers[7].elapsed.total_seconds() >= 1.0 > answers[4].elapsed.total_seconds()
        assert "refused token from 127.0.1.99 (8 in a row)" in server.log
        assert client.get("/v2", headers=bearer(token(server, "right", "predict"))).status_code == 200


def test_health_needs_no_token(server: Server) -> None:
    assert server.http.get("/v2/health/live").status_code == 200
    assert server.http.get("/v2/health/ready").status_code == 200


def test_both_headers_work(server: Server, admin: httpx.Client) -> None:
    secret = token(server, "both", "predict")
    for headers in (bearer(secret), {"X-API-Key": secret}, {"authorization": f"bearer {secret}"}):
        assert server.http.get("/v2", headers=headers).status_code == 200
    assert admin.get("/v2").json()["name"] == "tfserve"


# --- scopes and workspaces


def test_a_scope_allows_its_requests_and_no_others(shop: dict[str, httpx.Client]) -> None:
    status = {"name": "shop"}
    job = {"name": "shop", "job": "x = 1", "type": 1, "timeout": 30}
    expected = {"predict": (200, 403, 403), "submit": (200, 200, 403), "train": (403, 403, 200)}
    for scope, client in shop.items():
        found = (
            client.post("/get_status/", json=status).status_code,
            client.post("/push_job/", json=job).status_code,
            client.get("/tasks/").status_code,
        )
        assert found == expected[scope], scope
    refused = shop["predict"].post("/push_job/", json=job).json()
    assert refused["error"]["code"] == "forbidden"
    assert "'submit'" in refused["result"]
    for client in shop.values():
        assert client.get("/tokens/").status_code == 403
        assert client.post("/tokens/", json={"name": "more", "scopes": ["admin"]}).status_code == 403
        assert client.get("/", headers={"Accept": "text/html"}).status_code == 403
        assert client.post("/destroy/").status_code == 403
        refused = client.get("/metrics")
        assert refused.status_code == 403
        assert client is shop["train"] or "Use a token for all workspaces" in refused.text


def test_other_workspaces_do_not_exist_for_a_restricted_token(
    admin: httpx.Client, shop: dict[str, httpx.Client]
) -> None:
    client = shop["submit"]
    made = admin.post("/push_job/", json={"name": "garden", "job": "secret = 1", "type": 1, "timeout": 30}).json()
    job_id = made["result"]["id"]
    assert client.post("/get_workspace/", json={}).json()["result"] == ["shop"]
    found = client.get("/server/").json()["result"]
    assert [each["name"] for each in found["workspaces"]] == ["shop"]
    assert "nodes" not in found, "they name what runs for other workspaces"
    assert "garden" not in client.get("/jobs/").text
    assert client.get(f"/jobs/{job_id}").status_code == client.get(f"/jobs/{job_id + 999}").status_code == 404
    assert client.get(f"/jobs/{job_id}/output").status_code == 404
    assert client.get("/jobs/", params={"name": "garden"}).status_code == 404
    for path in ("/get_status/", "/get_variable/", "/get_result/", "/predict/", "/destroy_workspace/", "/undeploy/"):
        more = {"/get_variable/": {"variable": "x"}, "/predict/": {"fetches": "y:0"}}.get(path, {})
        missing = client.post(path, json={"name": "no-such", **more})
        other = client.post(path, json={"name": "garden", **more})
        assert other.status_code == missing.status_code == 404, path
        assert other.json()["result"] == missing.json()["result"].replace("no-such", "garden")
    for path in ("/create_workspace/", "/destroy_workspace/"):
        assert client.post(path, json={}).status_code == 403
    assert client.post("/create_workspace/", json={"name": "gardem"}).status_code == 403


def test_hints_do_not_name_other_workspaces(server: Server, admin: httpx.Client) -> None:
    """The supervisor suggests similar names; a token for `gardens`, which does not exist yet, must not see any."""
    secret = token(server, "hints", "submit", workspaces=["gardens"])
    answer = httpx.post(f"{server.url}/get_status/", json={"name": "gardens"}, headers=bearer(secret))
    assert answer.status_code == 404
    assert "garden'" not in answer.text


def test_repository_and_predictions_follow_the_same_rules(shop: dict[str, httpx.Client]) -> None:
    predict, submit = shop["predict"], shop["submit"]
    assert predict.post("/v2/repository/models/shop/load", json={}).status_code == 403
    assert submit.post("/v2/repository/models/shop/load", json={}).status_code == 404
    assert submit.post("/v2/repository/models/garden/load", json={}).status_code == 404
    for name in ("shop", "garden", "no-such"):
        assert predict.post(f"/v1/models/{name}:predict", json={"instances": [1]}).status_code == 404
        assert predict.post(f"/v2/models/{name}/infer", json={"inputs": []}).status_code == 404
    assert shop["train"].get("/v1/models").status_code == 403


def test_uploads_belong_to_their_token(server: Server, admin: httpx.Client, shop: dict[str, httpx.Client]) -> None:
    name = {"name": "notes.txt"}
    assert shop["predict"].post("/upload/", params=name, content=b"hello").status_code == 403
    made = shop["train"].post("/upload/", params=name, content=b"hello")
    assert made.status_code == 200, made.text
    upload = made.json()["result"]
    assert shop["train"].get(f"/upload/{upload['id']}").status_code == 200
    assert admin.get(f"/upload/{upload['id']}").status_code == 200
    listed = {name: shop[name].get("/upload/").json()["result"] for name in ("train", "submit")}
    assert [each["id"] for each in listed["train"]["uploads"]] == [upload["id"]]
    assert (listed["train"]["used_bytes"], listed["submit"]["uploads"]) == (5, [])
    other = shop["submit"]
    assert other.get("/upload/").json()["result"]["uploads"] == []
    assert other.get(f"/upload/{upload['id']}").status_code == other.get(f"/upload/{'0' * 32}").status_code == 404
    assert other.delete(f"/upload/{upload['id']}").status_code == 404
    refused = other.post("/push_job/", json={"name": "shop", "job": upload["path"], "type": 0, "timeout": 30})
    assert refused.status_code == 404
    assert shop["train"].delete(f"/upload/{upload['id']}").status_code == 200


def test_paths_into_the_data_folder_lead_only_to_what_is_visible(
    server: Server, admin: httpx.Client, shop: dict[str, httpx.Client]
) -> None:
    submit, train = shop["submit"], shop["train"]
    own, other = (
        admin.post("/get_status/", json={"name": name}).json()["result"]["folder"] for name in ("shop", "garden")
    )
    for folder in (own, other):
        (Path(folder) / "job.py").write_text("x = 1")
    upload = admin.post("/upload/", params={"name": "job.py"}, content=b"x = 1").json()["result"]["id"]
    data = str(server.data_dir)

    def status(path: str) -> int:
        job = {"name": "shop", "job": path, "type": 0, "timeout": 30}
        return submit.post("/push_job/", json=job).status_code

    assert status(f"{own}/job.py") == 200
    assert status(f"{data}/workspaces/../workspaces/{Path(own).parent.name}/{Path(own).name}/job.py") == 200
    assert status(f"{other}/job.py") == 400
    assert status(f"{data}/uploads/{upload}/content/job.py") == 404
    for name in ("", "/local_token", "/secret_key", "/tfserve.sqlite3", "/workspaces", "/uploads", "/audit.jsonl"):
        assert status(data + name) == 400, name
    project = {"userId": "u", "projectId": "p", "trainType": "classification"}
    for path in (other, f"{data}/uploads", data):
        assert train.post("/tasks/", json={**project, "projectDir": path}).status_code in (403, 404), path


def test_files_of_a_workspace_need_its_scope_and_its_workspace(
    admin: httpx.Client, shop: dict[str, httpx.Client]
) -> None:
    submit, predict = shop["submit"], shop["predict"]
    assert submit.put("/workspaces/shop/files/a.txt", content=b"a").status_code == 200
    assert submit.get("/workspaces/shop/files/a.txt").content == b"a"
    assert predict.get("/workspaces/shop/files/a.txt").status_code == 403
    assert admin.put("/workspaces/garden/files/b.txt", content=b"b").status_code == 200
    for method in ("GET", "PUT", "DELETE"):
        assert submit.request(method, "/workspaces/garden/files/b.txt").status_code == 404
    assert admin.get("/workspaces/garden/files/b.txt").content == b"b"


# --- the life of a token


def test_a_revoked_token_ends_in_every_process_at_once(server: Server, admin: httpx.Client) -> None:
    secret = token(server, "short", "predict")
    # Each connection is served by one of the two processes.
    assert {get(server, 100 + number, bearer(secret)).status_code for number in range(8)} == {200}
    assert admin.post("/tokens/short/revoke").json()["result"]["state"] == "revoked"
    assert {get(server, 100 + number, bearer(secret)).status_code for number in range(8)} == {401}
    again = admin.post("/tokens/short/revoke")
    assert again.status_code == 404
    assert "short" in again.json()["result"]


def test_a_revoked_token_ends_on_a_connection_that_predicts_with_it(server: Server, admin: httpx.Client) -> None:
    secret = token(server, "predicting", "predict")
    connection = Connection(server.url)
    ask = partial(connection.ask, "/v1/models/none:predict", b"{}", f"Authorization: Bearer {secret}")
    for _ in range(3):
        assert ask().startswith(b"HTTP/1.1 404")
    assert admin.post("/tokens/predicting/revoke").json()["result"]["state"] == "revoked"
    for _ in range(2):
        assert ask().startswith(b"HTTP/1.1 401")
    connection.close()


def test_what_runs_for_a_token_ends_with_it(server: Server, admin: httpx.Client) -> None:
    """The live output of a job breaks off, and a request that waited for a second gets 401 instead of a result."""
    secret = token(server, "watching", "submit")
    assert admin.post("/create_workspace/", json={"name": "long"}).status_code == 200
    folder = Path(admin.post("/get_status/", json={"name": "long"}).json()["result"]["folder"])
    script = (
        "import os, time\nwhile not os.path.exists('end'):\n    print('x', flush=True); time.sleep(0.05)\ntime.sleep(1)"
    )
    fields = {"name": "long", "job": script, "type": 1, "timeout": 0}
    with httpx.Client(base_url=server.url, headers=bearer(secret), timeout=60) as client:
        job = client.post("/push_job/", json=fields).json()["result"]["id"]
        with client.stream("GET", f"/jobs/{job}/output", headers={"Accept": "text/event-stream"}) as followed:
            lines = followed.iter_lines()
            next(lines)
            with ThreadPoolExecutor(1) as thread:
                queued = {**fields, "job": "x = 1", "timeout": 60}
                waiting = thread.submit(client.post, "/push_job/", json=queued)
                while admin.post("/get_job/", json={"name": "long"}).json()["result"] != 1:
                    pass
                assert admin.post("/tokens/watching/revoke").status_code == 200
                with pytest.raises(httpx.RemoteProtocolError):
                    list(lines)
                assert not waiting.done()
                (folder / "end").touch()
                answer = waiting.result()
        assert answer.status_code == 401
        assert "while this request was running" in answer.json()["result"]
    results = admin.post("/get_result/", json={"name": "long"}).json()["result"]
    assert results == [True, True]


def test_a_silent_stream_ends_at_once_with_its_token(server: Server, admin: httpx.Client) -> None:
    """Of a page, and of a job that prints nothing: its stream would send a sign of life only after 15 s."""
    secret = token(server, "silent", "admin")
    assert admin.post("/create_workspace/", json={"name": "silent"}).status_code == 200
    fields = {"name": "silent", "job": "import time\nprint(1, flush=True)\ntime.sleep(60)", "type": 1, "timeout": 0}
    job = admin.post("/push_job/", json=fields, headers={"Prefer": "respond-async"}).json()["result"]["id"]
    streams = {f"/jobs/{job}/output": "text/event-stream", "/pages/events": "text/event-stream"}
    with httpx.Client(base_url=server.url, headers=bearer(secret), timeout=10) as client, ExitStack() as opened:
        followed = [
            opened.enter_context(client.stream("GET", path, headers={"Accept": accept})).iter_lines()
            for path, accept in streams.items()
        ]
        for lines in followed:
            next(lines)
        assert admin.post("/tokens/silent/revoke").status_code == 200
        began = time.monotonic()
        for lines in followed:
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)
    assert time.monotonic() - began < 5
    assert admin.post("/destroy_workspace/", json={"name": "silent"}).status_code == 200
    assert "Exception in ASGI application" not in server.log
    assert "in the middle of its response" in server.log


def test_every_token_gets_the_secret_of_its_callbacks(server: Server, shop: dict[str, httpx.Client]) -> None:
    """Trainings may have callbacks, too."""
    secrets = {scope: client.get("/callbacks/secret") for scope, client in shop.items()}
    assert [answer.status_code for answer in secrets.values()] == [200, 200, 200]
    assert len({answer.json()["result"]["secret"] for answer in secrets.values()}) == 3
    assert server.http.get("/callbacks/secret").status_code == 401


def test_a_rotated_token_has_a_grace_period(server: Server, admin: httpx.Client) -> None:
    old = token(server, "turning", "predict")
    new = admin.post("/tokens/turning/rotate", json={"grace": "1h"}).json()["result"]["token"]
    assert {server.http.get("/v2", headers=bearer(each)).status_code for each in (old, new)} == {200}
    newest = tfserve(server.data_dir, "token", "rotate", "turning", "--grace", "0s").stdout.strip()
    assert server.http.get("/v2", headers=bearer(newest)).status_code == 200
    assert {get(server, 120, bearer(each)).status_code for each in (old, new)} == {401}


def test_an_expired_token_is_refused_and_makes_room_for_its_name(server: Server, admin: httpx.Client) -> None:
    made = admin.post("/tokens/", json={"name": "brief", "scopes": ["predict"], "expires": "1s"}).json()["result"]
    until = time.time() + 30
    while get(server, 121, bearer(made["token"])).status_code == 200 and time.time() < until:
        pass
    rotated = admin.post("/tokens/brief/rotate")
    assert (rotated.status_code, "has expired" in rotated.text) == (409, True)
    assert get(server, 121, bearer(made["token"])).status_code == 401
    again = admin.post("/tokens/", json={"name": "brief", "scopes": ["predict"]})
    assert again.status_code == 200
    states = [each["state"] for each in admin.get("/tokens/").json()["result"] if each["name"] == "brief"]
    assert states == ["active", "revoked"]


def test_the_last_use_is_recorded_and_the_secret_is_not_stored(server: Server, admin: httpx.Client) -> None:
    secret = token(server, "used", "predict")
    assert server.http.get("/v2", headers=bearer(secret)).status_code == 200

    def last_use() -> Any:
        return next(each for each in admin.get("/tokens/").json()["result"] if each["name"] == "used")

    until = time.time() + 30
    while "last_used_at" not in last_use() and time.time() < until:
        pass
    assert "last_used_at" in last_use()
    stored = b"".join(file.read_bytes() for file in server.data_dir.glob("tfserve.sqlite3*"))
    assert secret.encode() not in stored
    assert secret not in server.log


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "x", "scopes": []}, "at least one scope"),
        ({"name": "x", "scopes": ["predic"]}, "did you mean 'predict'"),
        ({"name": "a/b", "scopes": ["predict"]}, "valid token name"),
        ({"name": "x", "scopes": ["predict"], "expires": "soon"}, "duration such as 90d"),
        ({"name": "x", "scopes": ["predict"], "workspaces": []}, "at least one workspace"),
        ({"name": "x", "scopes": ["admin"], "workspaces": ["shop"]}, "admin can use all workspaces"),
        ({"name": "root", "scopes": ["predict"]}, "already a token"),
    ],
)
def test_tokens_that_cannot_be_made(admin: httpx.Client, fields: dict[str, Any], problem: str) -> None:
    answer = admin.post("/tokens/", json=fields)
    assert answer.status_code in (400, 409)
    assert problem in answer.json()["result"]


# --- people


def test_the_first_start_prints_a_link_that_sets_the_password_once(
    server: Server, request: pytest.FixtureRequest
) -> None:
    link = re.search(r"admin +(\S+) sets the password", server.log)
    assert link, server.log
    browser = httpx.Client(base_url=server.url, headers={"Accept": "text/html"}, follow_redirects=True, timeout=60)
    request.addfinalizer(browser.close)
    form = browser.get("/")
    assert form.status_code == 401
    assert "Log in" in form.text
    page = browser.get(link[1])
    fields = {"code": link[1].partition("code=")[2], "csrfmiddlewaretoken": browser.cookies["tfserve_csrf"]}
    origin = {"Origin": server.url}
    assert page.status_code == 200
    weak = browser.post("/pages/password/", data={**fields, "password": "12345", "again": "12345"}, headers=origin)
    assert weak.status_code == 400
    done = {**fields, "password": PASSWORD, "again": PASSWORD}
    assert "Log in" in browser.post("/pages/password/", data=done, headers=origin).text
    assert browser.post("/pages/password/", data=done, headers=origin).status_code == 403
    used = browser.get(link[1])
    assert used.status_code == 403
    assert "This link is not valid: it was used" in used.text
    assert 'type="password"' not in used.text
    log_in = {"username": "admin", "csrfmiddlewaretoken": browser.cookies["tfserve_csrf"], "next": "/"}
    assert browser.post("/pages/login/", data={**log_in, "password": "x"}, headers=origin).status_code == 401
    status = browser.post("/pages/login/", data={**log_in, "password": PASSWORD}, headers=origin)
    assert status.status_code == 200
    assert "Workspaces" in status.text
    cookie = next(each for each in browser.cookies.jar if each.name == "tfserve_session")
    assert cookie.has_nonstandard_attr("HttpOnly")
    as_json = {"Accept": "application/json", **origin}
    assert browser.get("/jobs/", headers=as_json).json()["request_result"], "the pages use the API with the session"
    without_token = browser.post("/create_workspace/", json={}, headers=as_json)
    assert without_token.status_code == 403
    assert "Load the page again" in without_token.json()["error"]["message"]
    meta = re.search(r'name="csrf" content="(\w+)"', status.text)
    assert meta
    made = browser.post("/create_workspace/", json={}, headers={**as_json, "X-CSRFToken": meta[1]})
    assert made.is_success, made.text
    assert httpx.get(f"{server.url}/jobs/", headers={"Cookie": "tfserve_session=forged"}).status_code == 401
    elsewhere = browser.post(
        "/pages/login/", data={**log_in, "password": PASSWORD, "next": "//evil.example/"}, headers=origin
    )
    assert str(elsewhere.url).startswith(server.url)
    without = httpx.post(f"{server.url}/pages/login/", data={"username": "admin", "password": PASSWORD})
    assert without.status_code == 403


def test_passwords_that_are_guessed_in_parallel_are_not_checked_in_parallel(server: Server) -> None:
    with httpx.Client(base_url=server.url) as client:
        form = client.get("/pages/login/", headers={"Accept": "text/html"})
    cookies = form.cookies
    fields = {"username": "admin", "password": "guess", "csrfmiddlewaretoken": cookies["tfserve_csrf"]}
    connections = httpx.Limits(max_connections=40)
    transport = httpx.HTTPTransport(local_address="127.0.1.98", limits=connections)

    with httpx.Client(base_url=server.url, cookies=cookies, transport=transport, timeout=90) as guessing:

        def guess(number: int) -> httpx.Response:
            headers = {"Accept": "application/json" if number % 2 else "text/html", "Origin": server.url}
            return guessing.post("/pages/login/", data=fields, headers=headers)

        with ThreadPoolExecutor(40) as threads:
            answers = list(threads.map(guess, range(40)))
    found = Counter(answer.status_code for answer in answers)
    assert set(found) == {401, 429}
    assert found[401] <= 12, "each of two web processes checks five of an address, and one more after each delay"
    refused = [answer for answer in answers if answer.status_code == 429]
    assert all("from your address" in answer.text for answer in refused)
    assert {answer.headers["retry-after"] for answer in refused} == {"5"}
    codes = [answer.json()["error"]["code"] for answer in refused if "json" in answer.headers["content-type"]]
    assert set(codes) == {"overloaded"}


def test_a_new_link_ends_the_sessions_of_the_old_password(server: Server) -> None:
    link = tfserve(server.data_dir, "token", "link").stdout.strip()
    assert link.startswith(f"{server.url}/pages/password/?code=")
    assert httpx.get(link).status_code == 200
    for wrong in ("", "wrong", "\u00e9"):
        assert httpx.get(f"{server.url}/pages/password/", params={"code": wrong}).status_code == 403


def test_logging_out_ends_the_session_with_all_copies_of_its_cookie_and_no_other(server: Server) -> None:
    link = tfserve(server.data_dir, "token", "link").stdout.strip()
    headers = {"Accept": "text/html", "Origin": server.url}

    def logged_in(browser: httpx.Client) -> dict[str, str]:
        browser.get("/pages/login/")
        form = {"username": "admin", "password": PASSWORD, "csrfmiddlewaretoken": browser.cookies["tfserve_csrf"]}
        assert browser.post("/pages/login/", data=form).status_code == 302
        return dict(browser.cookies)

    with (
        httpx.Client(base_url=server.url, headers=headers, timeout=60) as here,
        httpx.Client(base_url=server.url, headers=headers, timeout=60) as there,
    ):
        here.get(link)
        password = {"code": link.partition("code=")[2], "password": PASSWORD, "again": PASSWORD}
        here.post("/pages/password/", data={**password, "csrfmiddlewaretoken": here.cookies["tfserve_csrf"]})
        first = "; ".join(f"{name}={value}" for name, value in logged_in(here).items())
        copy = "; ".join(f"{name}={value}" for name, value in logged_in(here).items())
        replaced = {"Cookie": first, "Accept": "application/json"}
        assert httpx.get(f"{server.url}/jobs/", headers=replaced).status_code == 401, "a second log-in replaces it"
        logged_in(there)
        copied = {"Cookie": copy, "Accept": "application/json"}
        assert httpx.get(f"{server.url}/jobs/", headers=copied).status_code == 200
        for foreign in ('prefs={"a":1}', "flag", "a b=c", "x=1,2; =", "n\xe4me=\xe4", 'open="'):
            cookies = f"{foreign}; {copy}; {foreign}".encode("latin-1")
            with_foreign = {**copied, "Cookie": cookies}
            assert httpx.get(f"{server.url}/jobs/", headers=with_foreign).status_code == 200, foreign
        with httpx.stream("GET", f"{server.url}/pages/events", headers=copied, timeout=30) as events:
            lines = events.iter_lines()
            next(lines)
            form = {"csrfmiddlewaretoken": here.cookies["tfserve_csrf"]}
            assert here.post("/pages/logout/", data=form).headers["Location"] == "/pages/login/"
            assert httpx.get(f"{server.url}/jobs/", headers=copied).status_code == 401
            assert httpx.get(f"{server.url}/", headers={**copied, "Accept": "text/html"}).status_code == 401
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)
        assert there.get("/").status_code == 200


def test_a_new_password_ends_the_stream_of_an_open_page(server: Server) -> None:
    with httpx.Client(base_url=server.url, headers={"Accept": "text/html", "Origin": server.url}, timeout=60) as page:

        def set_password() -> None:
            link = tfserve(server.data_dir, "token", "link").stdout.strip()
            page.get(link)
            fields = {"code": link.partition("code=")[2], "password": PASSWORD, "again": PASSWORD}
            form = {**fields, "csrfmiddlewaretoken": page.cookies["tfserve_csrf"]}
            assert page.post("/pages/password/", data=form).status_code == 302

        set_password()
        form = {"username": "admin", "password": PASSWORD, "csrfmiddlewaretoken": page.cookies["tfserve_csrf"]}
        assert page.post("/pages/login/", data=form).status_code == 302
        with page.stream("GET", "/pages/events") as events:
            lines = events.iter_lines()
            next(lines)
            set_password()
            began = time.monotonic()
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)
        assert time.monotonic() - began < 10
        assert page.get("/pages/events").status_code == 401


def test_an_administrator_manages_tokens_on_a_page_and_sees_who_did_what(server: Server, admin: httpx.Client) -> None:
    page = admin.get("/pages/tokens/", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "tfs_" not in page.text
    csrf = {"csrfmiddlewaretoken": page.cookies["tfserve_csrf"]}
    form = {**csrf, "action": "create", "name": "by-hand", "scopes": ["predict", "train"], "expires": "7d"}
    headers = {"Accept": "text/html", "Origin": server.url}
    made = admin.post("/pages/tokens/", data=form, headers=headers)
    secret = re.search(r"tfs_[\w-]{43}", made.text)
    assert secret, made.text
    assert server.http.get("/v2", headers=bearer(secret[0])).status_code == 200
    again = admin.post("/pages/tokens/", data=form, headers=headers)
    assert again.status_code == 409
    assert "already a token" in again.text
    assert admin.post(
        "/pages/tokens/", data={**csrf, "action": "revoke", "name": "by-hand"}, headers=headers
    ).is_success
    assert get(server, 130, bearer(secret[0])).status_code == 401
    assert admin.post("/pages/tokens/", data={"action": "revoke", "name": "root"}, headers=headers).status_code == 403
    entries = admin.get("/audit/", params={"limit": 1000}).json()["result"]
    done = [
        (each["who"], each["action"], each["outcome"])
        for each in entries
        if each.get("resource", {}).get("name") == "by-hand"
    ]
    assert done == [
        ("root", "revoke_token", "ok"), ("root", "create_token", "conflict"), ("root", "create_token", "ok")
    ]  # fmt: skip
    stored = (server.data_dir / "audit.jsonl").read_text()
    assert "tfs_" not in stored
    assert PASSWORD not in stored
    assert "refused_token" in stored
    assert '"client":"127.0.1.130"' in stored
    shown = admin.get("/pages/audit/", headers={"Accept": "text/html"}).text
    assert "revoke_token" in shown


def test_jobs_and_refusals_are_in_the_audit_log_without_their_scripts(
    server: Server, admin: httpx.Client, shop: dict[str, httpx.Client]
) -> None:
    job = {"name": "shop", "job": "password = 'hunter2'", "type": 1, "timeout": 30}
    headers = {"X-Request-Id": "find-me"}
    assert shop["submit"].post("/push_job/", json=job, headers=headers).status_code == 200
    assert shop["predict"].post("/push_job/", json=job, headers=headers).status_code == 403
    entries = [each for each in admin.get("/audit/").json()["result"] if each.get("request_id") == "find-me"]
    assert [(each["who"], each["outcome"]) for each in entries] == [
        ("shop-predict", "forbidden"),
        ("shop-submit", "ok"),
    ]
    assert entries[1]["resource"] == {"name": "shop"}
    assert "hunter2" not in (server.data_dir / "audit.jsonl").read_text()


def test_html_in_names_is_shown_as_text(admin: httpx.Client) -> None:
    admin.post("/tokens/<script>alert(1)</script>/revoke")
    shown = admin.get("/pages/audit/", headers={"Accept": "text/html"})
    assert "<script>alert" not in shown.text
    assert (
        "script-src" in shown.headers["content-security-policy"]
        or "default-src 'self'" in shown.headers["content-security-policy"]
    )


# --- limits


@pytest.mark.slow
def test_a_token_that_sends_too_much_is_refused_and_others_are_not(tmp_path: Path) -> None:
    limits = ("--token-requests-per-s", "5", "--token-jobs", "2", "--auth", "on")
    server = Server(tmp_path / "data", *limits)
    try:
        busy, other = (bearer(token(server, name, "submit")) for name in ("busy", "other"))
        answers = [server.http.get("/v2", headers=busy) for _ in range(20)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert "busy" in refused[0].json()["error"]
        assert refused[0].headers["retry-after"]
        assert server.http.get("/v2", headers=other).status_code == 200
        assert server.http.post("/create_workspace/", json={"name": "w"}, headers=other).status_code == 200
        slow = {"name": "w", "job": "import time; time.sleep(60)", "type": 1, "timeout": 0}
        statuses = [server.http.post("/push_job/", json=slow, headers=other).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert server.http.post("/restart_workspace/", json={"name": "w"}, headers=other).status_code in (200, 429)
    finally:
        server.close()


@pytest.mark.slow
def test_web_processes_limit_a_token_together(tmp_path: Path) -> None:
    options = ("--token-requests-per-s", "0.01", "--web-processes", "2", "--auth", "on")
    server = Server(tmp_path / "data", *options)
    try:
        headers = bearer(token(server, "busy", "predict"))
        statuses = [httpx.get(f"{server.url}/v2", headers=headers).status_code for _ in range(12)]
        assert sorted(statuses) == [200] + [429] * 11, "over connections to both processes"
    finally:
        server.close()


# --- when authentication is on


def test_the_first_token_closes_a_server_on_loopback(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    try:
        assert server.http.get("/v2").status_code == 200
        secret = tfserve(server.data_dir, "token", "create", "first", "--scope", "predict").stdout.strip()
        assert server.http.get("/v2").status_code == 401
        assert server.http.get("/v2", headers=bearer(secret)).status_code == 200
        local = (server.data_dir / "local_token").read_text()
        assert server.http.post("/tokens/first/revoke", headers=bearer(local)).status_code == 200
        assert server.http.get("/v2").status_code == 401  # closed, not open again
    finally:
        server.close()
    assert tfserve(server.data_dir, "token", "create", "second", "--scope", "predict").returncode == 0
    listed = tfserve(server.data_dir, "token", "list").stdout
    assert re.search(r"second +predict +- +active", listed)
    assert re.search(r"first +predict +- +revoked", listed)


def test_an_address_that_others_reach_needs_tokens(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", host="0.0.0.0")
    try:
        url = local_url(server)
        assert httpx.get(f"{url}/v2").status_code == 401
        secret = token(server, "remote", "predict")
        assert httpx.get(f"{url}/v2", headers=bearer(secret)).status_code == 200
        statuses = {
            host: httpx.get(f"{url}/v2", headers={**bearer(secret), "Host": host}).status_code
            for host in (
                "192.0.2.7:8000",
                "[2001:db8::1]:8000",
                socket.gethostname(),
                "evil.example",
                "1.2.3.4.evil.example",
            )
        }
        assert [*statuses.values()] == [200, 200, 200, 403, 403], statuses
    finally:
        server.close()


def test_authentication_off_on_a_public_address_must_be_allowed(tmp_path: Path) -> None:
    environment = {**os.environ, "TFSERVE_AUTH": "off"}
    command = [sys.executable, "-m", "tfserve.cli", "serve", "0.0.0.0:0", "--data-dir", str(tmp_path / "data")]
    refused = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 1
    assert "TFSERVE_ALLOW_UNAUTHENTICATED=1" in refused.stderr
