"""The configurations of nginx in the guide work, in front of a real server."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.conftest import Server
from tests.docs.proxy_guide import CONFIGURATIONS, NAME, nginx
from tests.protocols.grpc_port import free_port

pytestmark = pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("server") / "data", "--allowed-hosts", NAME)
    yield started
    started.close()


def proxied(site: str, server: Server, folder: Path) -> Iterator[httpx.Client]:
    listen = free_port()
    command = nginx(folder, site, listen=listen, backend=int(server.url.rpartition(":")[2]))
    subprocess.run([*command, "-t"], check=True)
    process = subprocess.Popen(command)
    transport = httpx.HTTPTransport(retries=8)  # until nginx listens
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{listen}", headers={"Host": NAME}, transport=transport) as client:
            yield client
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def whole(server: Server, tmp_path: Path) -> Iterator[httpx.Client]:
    yield from proxied(CONFIGURATIONS["tfserve.conf"], server, tmp_path)


@pytest.fixture
def predictions_only(server: Server, tmp_path: Path) -> Iterator[httpx.Client]:
    whole, published = CONFIGURATIONS["tfserve.conf"], CONFIGURATIONS["predictions.conf"]
    others, count = re.subn(r"    location [^{]*\{.*?\n    \}\n", "", whole, flags=re.DOTALL)
    assert count == 2
    yield from proxied(re.sub(r"\}\n*$", lambda _: f"{published}}}\n", others), server, tmp_path)


def test_the_whole_server_is_reached(whole: httpx.Client) -> None:
    assert whole.get("/v2/health/ready").json() == {"live": True, "ready": True}
    assert whole.post("/create_workspace/", json={"name": "proxied"}).json()["result"] == "proxied"
    page = whole.get("/pages/workspaces/", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "proxied" in page.text


def test_a_page_of_the_public_name_may_change_something(whole: httpx.Client) -> None:
    headers = {"Origin": f"https://{NAME}"}
    assert whole.post("/get_workspace/", json={}, headers=headers).status_code == 200
    assert whole.post("/get_workspace/", json={}, headers={"Origin": "https://other.example"}).status_code == 403


def test_a_request_gets_the_id_of_nginx(whole: httpx.Client) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", whole.get("/v2/health/live").headers["X-Request-Id"])


def test_only_predictions_are_published(predictions_only: httpx.Client) -> None:
    assert "error" in predictions_only.post("/v1/models/none:predict", json={"instances": [1]}).json()
    unpublished = ("/push_job/", "/", "/v1/models", "/v2/repository/models/none/unload", "/jobs/")
    for path in (*unpublished, "/upload/", "/workspaces/none/files/a.py"):
        response = predictions_only.post(path, json={})
        assert response.status_code == 404
        assert "nginx" in response.text


def test_no_location_loses_the_headers_of_the_site(predictions_only: httpx.Client) -> None:
    """nginx drops all headers of the site where a location sets one. Clients could then make up their address."""
    response = predictions_only.post("/v1/models/none:predict", json={"instances": [1]}, headers={"X-Request-Id": "x"})
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["X-Request-Id"])


def test_a_site_on_another_port_names_it(server: Server, tmp_path: Path) -> None:
    site = CONFIGURATIONS["tfserve.conf"].replace("Host $host;", "Host $host:$server_port;")
    for client in proxied(site, server, tmp_path):
        origin = f"http://{NAME}:{client.base_url.port}"
        assert client.get("/openapi.json").json()["servers"][0]["url"] == origin
        assert client.post("/get_workspace/", json={}, headers={"Origin": origin}).status_code == 200


def test_the_apis_work_under_a_path(server: Server, tmp_path: Path) -> None:
    site = CONFIGURATIONS["tfserve.conf"].replace("location / {", CONFIGURATIONS["path.conf"] + "location /none/ {")
    for client in proxied(site, server, tmp_path):
        assert client.get("/models/v1/models").json() == {"models": []}


def test_an_upload_under_a_path_may_be_larger_than_other_bodies(server: Server, tmp_path: Path) -> None:
    site = CONFIGURATIONS["tfserve.conf"].replace("client_max_body_size 64m", "client_max_body_size 1k")
    site = site.replace("location / {", CONFIGURATIONS["path.conf"] + "location / {")
    for client in proxied(site, server, tmp_path):
        assert client.post("/jobs/", content=b"x" * 2000).status_code == 413
        for path in ("/upload/", "/models/upload/"):
            response = client.post(path, params={"name": "large.bin"}, content=b"x" * 2000)
            assert response.json()["result"]["size"] == 2000


def test_the_configuration_for_grpc_is_valid(tmp_path: Path) -> None:
    command = nginx(tmp_path, CONFIGURATIONS["grpc.conf"], listen=free_port(), backend=1)
    subprocess.run([*command, "-t"], check=True)
