"""Clients can't make up their address with the configurations of proxies in the guide: the real proxies, and what
the server believes of the headers that they pass on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from tests.docs.proxy_guide import CONFIGURATIONS, NAME, caddy, haproxy, nginx
from tests.protocols.grpc_port import free_port
from tfserve.web.http.forwarded import Client, Header, TrustedProxies

PROXIES = TrustedProxies([ip_network("127.0.0.1/32")])
CLIENT = "127.0.0.2"
FORGED = {
    "Forwarded": "for=198.51.100.1;host=evil.example;proto=https",
    "X-Forwarded-For": "198.51.100.1",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "ftp",
}


def believed(headers: list[Header]) -> Client:
    return PROXIES.client("127.0.0.1", [(name.lower(), value) for name, value in headers])


class Headers(BaseHTTPRequestHandler):
    """Responds with the headers of the request."""

    def do_GET(self) -> None:
        body = json.dumps(self.headers.items()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def backend() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Headers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


COMMANDS = {"nginx": partial(nginx, site=CONFIGURATIONS["tfserve.conf"]), "caddy": caddy, "haproxy": haproxy}


@pytest.mark.parametrize("proxy", COMMANDS)
def test_a_client_cannot_make_up_what_a_proxy_reports(proxy: str, backend: int, tmp_path: Path) -> None:
    if shutil.which(proxy) is None:
        pytest.skip(f"{proxy} is not installed")
    listen = free_port()
    command = COMMANDS[proxy](tmp_path, listen=listen, backend=backend)
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    transport = httpx.HTTPTransport(retries=8, local_address=CLIENT)  # until the proxy listens
    with (
        subprocess.Popen(command, env=environment) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{listen}", headers={"Host": NAME}, transport=transport) as client,
    ):
        try:
            headers = client.get("/", headers=FORGED).json()
        finally:
            process.terminate()
    reported = believed([(name.encode(), value.encode()) for name, value in headers])
    assert reported.address == (CLIENT, 0)
    assert reported.scheme == ("https" if proxy == "haproxy" else "http")
    assert reported.host in (None, NAME)


class Metadata(grpc.GenericRpcHandler):
    """Responds to any call with its metadata."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        found = [(name, value) for name, value in details.invocation_metadata if isinstance(value, str)]
        return grpc.unary_unary_rpc_method_handler(lambda *_: json.dumps(found).encode())


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_a_grpc_client_cannot_make_up_its_address(tmp_path: Path) -> None:
    server = grpc.server(ThreadPoolExecutor(1), handlers=[Metadata()])
    listen, backend = free_port(), server.add_insecure_port("127.0.0.1:0")
    server.start()
    forged = [(name.lower(), value) for name, value in FORGED.items()]
    with (
        subprocess.Popen(nginx(tmp_path, CONFIGURATIONS["grpc.conf"], listen=listen, backend=backend)) as process,
        grpc.insecure_channel(f"127.0.0.1:{listen}", options=[("grpc.default_authority", NAME)]) as channel,
    ):
        try:
            call = channel.unary_unary("/any/Method")
            found = json.loads(call(b"", metadata=forged, timeout=20, wait_for_ready=True))
        finally:
            process.terminate()
            server.stop(None).wait()
    reported = believed([(name.encode(), value.encode()) for name, value in found])
    assert reported.address == ("127.0.0.1", 0)
