"""The configurations of nginx in the guide work, in front of a real server."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.conftest import REPOSITORY, Server
from tests.docs_samples import samples
from tests.protocols.grpc_port import free_port

pytestmark = pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")

NAME = "models.example.com"
GUIDE = samples((REPOSITORY / "docs" / "how-to" / "nginx.md").read_text(encoding="utf-8"))
CONFIGURATIONS = {each.title: each.code for each in GUIDE if each.language == "nginx"}
AROUND = """
daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    {site}
}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("server") / "data", "--allowed-hosts", NAME)
    yield started
    started.close()


def without_tls(site: str, *, listen: int, port: str) -> str:
    """The site on another port and without certificates, which a test does not have."""
    site = re.sub(r"^ *ssl_certificate.*$", "", site, flags=re.MULTILINE)
    return re.sub(r"listen \d+ ssl", f"listen 127.0.0.1:{listen}", site).replace("127.0.0.1:8000", f"127.0.0.1:{port}")


def proxied(site: str, server: Server, folder: Path) -> Iterator[httpx.Client]:
    listen = free_port()
    configuration = folder / "nginx.conf"
    site = without_tls(site, listen=listen, port=server.url.rpartition(":")[2])
    configuration.write_text(AROUND.format(folder=folder, site=site))
    subprocess.run(["nginx", "-t", "-c", configuration, "-p", folder], check=True)
    process = subprocess.Popen(["nginx", "-c", configuration, "-p", folder])
    transport = httpx.HTTPTransport(retries=8)  # until nginx listens
    with httpx.Client(base_url=f"http://127.0.0.1:{listen}", headers={"Host": NAME}, transport=transport) as client:
        yield client
    process.terminate()
    process.wait(20)


@pytest.fixture
def whole(server: Server, tmp_path: Path) -> Iterator[httpx.Client]:
    yield from proxied(CONFIGURATIONS["tfserve.conf"], server, tmp_path)


@pytest.fixture
def predictions_only(server: Server, tmp_path: Path) -> Iterator[httpx.Client]:
    whole, published = CONFIGURATIONS["tfserve.conf"], CONFIGURATIONS["predictions.conf"]
    site = re.sub(r"    location / \{.*?\n    \}\n", lambda _: published, whole, flags=re.DOTALL)
    yield from proxied(site, server, tmp_path)


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
    for path in ("/push_job/", "/", "/v1/models", "/v2/repository/models/none/unload", "/jobs/"):
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


def test_the_configuration_for_grpc_is_valid(tmp_path: Path) -> None:
    site = without_tls(CONFIGURATIONS["grpc.conf"], listen=free_port(), port="0")
    (tmp_path / "nginx.conf").write_text(AROUND.format(folder=tmp_path, site=site))
    subprocess.run(["nginx", "-t", "-c", tmp_path / "nginx.conf", "-p", tmp_path], check=True)
