"""CORS and trusted proxies over real sockets: what browsers need, and what others may not claim."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from tests.acceptance.conftest import Server
from tests.protocols.grpc_port import free_port
from tfserve.web.api.protos import oip_pb2 as v2

ORIGIN = "https://app.example.com"
OTHER = "https://other.example.com"
NAME = "models.example.com"


class Proxied:
    """A server that trusts 127.0.0.2, and clients with different addresses."""

    def __init__(self, folder: Path) -> None:
        self.grpc = free_port()
        self.log = folder / "access.log"
        self.server = Server(
            folder / "data", "--allowed-origins", f"{ORIGIN}, http://localhost:3000", "--allowed-hosts", NAME,
            "--trusted-proxies", "127.0.0.2/31", "--access-log", str(self.log), "--grpc-port", str(self.grpc),
        )  # fmt: skip
        self.http = self.server.http
        self.proxy = self.client_at("127.0.0.2")

    def client_at(self, address: str) -> httpx.Client:
        return httpx.Client(base_url=self.server.url, transport=httpx.HTTPTransport(local_address=address))

    def logged(self) -> dict[str, dict[str, object]]:
        """The lines of the access log by request id, complete because the server has stopped."""
        self.server.close()
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return {line["request_id"]: line for line in lines}


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    started = Proxied(tmp_path_factory.mktemp("proxied"))
    yield started
    started.proxy.close()
    started.server.close()


SENT = "authorization,content-type,idempotency-key,inference-header-content-length,priority,range,x-api-key"


def preflight(
    client: httpx.Client, origin: str = ORIGIN, *, method: str = "POST", path: str = "/push_job/"
) -> httpx.Response:
    return client.options(
        path,
        headers={"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": SENT},
    )


# --- CORS


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "GET", "PATCH"])
@pytest.mark.parametrize("path", ["/push_job/", "/v1/models/m:predict", "/v2/models/m/infer", "/jobs/", "/"])
def test_a_preflight_allows_what_clients_send(proxied: Proxied, method: str, path: str) -> None:
    response = preflight(proxied.http, method=method, path=path)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert method in response.headers["access-control-allow-methods"].split(", ")
    allowed = set(response.headers["access-control-allow-headers"].lower().replace(" ", "").split(","))
    assert {"authorization", "x-api-key", "range", "priority", "inference-header-content-length"} <= allowed
    assert "access-control-allow-credentials" not in response.headers
    assert "x-request-id" in response.headers


@pytest.mark.parametrize("origin", [OTHER, "null", f"{ORIGIN}.evil.example", f"{ORIGIN}:444", "http://app.example.com"])
def test_other_origins_are_refused(proxied: Proxied, origin: str) -> None:
    response = preflight(proxied.http, origin)
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers
    for headers in ({"Origin": origin}, {"Origin": origin, "Sec-Fetch-Site": "cross-site"}):
        refused = proxied.http.post("/get_workspace/", json={}, headers=headers)
        assert refused.status_code == 403
        assert "TFSERVE_ALLOWED_ORIGINS" in refused.json()["result"]
        assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/get_workspace/", 200),
        ("POST", "/json_test/", 400),
        ("POST", "/get_status/", 404),
        ("GET", "/v2/health/live", 200),
        ("GET", "/metrics", 200),
        ("GET", "/none", 404),
        ("PUT", "/get_workspace/", 405),
        ("GET", "/static/pages/pages.css", 200),
        ("GET", "/jobs/", 200),
        ("POST", "/v1/models/none:predict", 404),
    ],
)
def test_responses_and_errors_have_the_headers_once(proxied: Proxied, method: str, path: str, status: int) -> None:
    headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
    content = b'{"name": "none", "instances": [1]}' if status != 400 else b"{"
    response = proxied.http.request(method, path, headers=headers, content=content)
    assert response.status_code == status, response.text
    assert response.headers.get_list("access-control-allow-origin") == [ORIGIN]
    assert response.headers.get_list("access-control-expose-headers") == ["*"]
    assert "Origin" in response.headers["vary"]
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]
    assert len(response.headers.get_list("x-request-id")) == 1


def test_an_error_of_the_guard_has_the_headers(proxied: Proxied) -> None:
    response = proxied.http.post("/get_workspace/", json={}, headers={"Origin": ORIGIN, "Host": "evil.example"})
    assert response.status_code == 403
    assert response.headers["access-control-allow-origin"] == ORIGIN


def test_responses_without_an_origin_only_vary(proxied: Proxied) -> None:
    for path in ("/v2/health/live", "/static/pages/pages.css"):
        response = proxied.http.get(path)
        assert "Origin" in response.headers["vary"]
        assert "access-control-allow-origin" not in response.headers


def test_without_the_setting_nothing_changes(server: Server) -> None:
    assert preflight(server.http).status_code == 405
    refused = server.http.post("/get_workspace/", json={}, headers={"Origin": ORIGIN})
    assert refused.status_code == 403
    response = server.http.get("/v2/health/live", headers={"Origin": ORIGIN})
    assert not {"vary", "access-control-allow-origin"} & set(response.headers)


# --- trusted proxies; the last test stops the server to read its log


def test_the_host_of_a_trusted_proxy_is_checked_as_any_other(proxied: Proxied) -> None:
    for host, status in ((NAME, 200), ("evil.example", 403)):
        response = proxied.proxy.get("/jobs/", headers={"X-Forwarded-Host": host})
        assert response.status_code == status
    page = {"X-Forwarded-Host": NAME, "X-Forwarded-Proto": "https", "Origin": f"https://{NAME}"}
    assert proxied.proxy.post("/get_workspace/", json={}, headers=page).status_code == 200
    assert proxied.http.post("/get_workspace/", json={}, headers=page).status_code == 403


def test_the_access_log_has_the_address_that_a_trusted_proxy_reports(proxied: Proxied) -> None:
    spoofed = {"X-Forwarded-For": "198.51.100.1, 203.0.113.5"}
    proxied.proxy.get("/jobs/", headers={**spoofed, "X-Request-Id": "trusted"})
    proxied.proxy.get("/jobs/", headers={"Forwarded": "for=203.0.113.5:4711", "X-Request-Id": "standard"})
    proxied.http.get("/jobs/", headers={**spoofed, "Forwarded": "for=203.0.113.5", "X-Request-Id": "spoofed"})
    with grpc.insecure_channel(f"127.0.0.1:{proxied.grpc}") as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        metadata = (("x-request-id", "grpc"), ("x-forwarded-for", "203.0.113.5"))
        live(v2.ServerLiveRequest().SerializeToString(), metadata=metadata, timeout=20)
    preflight_id = preflight(proxied.http).headers["x-request-id"]
    lines = proxied.logged()
    assert lines["trusted"]["client"] == "203.0.113.5"
    assert lines["standard"]["client"] == "203.0.113.5:4711"
    assert str(lines["spoofed"]["client"]).startswith("127.0.0.1:")
    assert str(lines["grpc"]["client"]).startswith("ipv4:127.0.0.1:")
    assert lines[preflight_id]["method"] == "OPTIONS"
