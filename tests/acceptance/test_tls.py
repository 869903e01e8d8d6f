"""TLS on every port: real clients, certificates that are replaced while connections are open, bad handshakes."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from tests.acceptance.conftest import REPOSITORY, Server
from tests.certificates import Authority, Pair
from tests.protocols.grpc_port import free_port
from tfserve.cli import main
from tfserve.cli.target import NO_SERVER
from tfserve.web.api.protos import oip_pb2 as v2
from tfserve_client import Client, Unreachable

HANDSHAKE_S = 1.0
ORIGIN = "https://app.example.com"
READY = b'{"live":true,"ready":true}'
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Tls:
    """A server with TLS on all its ports."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.authority = Authority(folder / "ca")
        self.client = self.authority.pair("client", "client@example.com")
        self.ca = self.authority.file.read_bytes()
        self.trust = self.authority.trust(self.client)
        self.pair = self.authority.pair("server")
        self.grpc, self.v1, self.training = free_port(), free_port(), free_port()
        ports = ("--grpc-port", str(self.grpc), "--v1-port", str(self.v1), "--training-port", str(self.training))
        self.server = Server(
            folder / "data", *self.pair.options, *ports, *options,
            environment={"TFSERVE_HEADER_TIMEOUT_S": str(HANDSHAKE_S)}, verify=self.trust,
        )  # fmt: skip
        self.port = int(self.server.url.rpartition(":")[2])

    def connect(self, port: int | None = None, *, server_name: str | None = "localhost") -> ssl.SSLSocket:
        context = self.authority.trust(self.client)
        context.check_hostname = server_name is not None
        sock = socket.create_connection(("127.0.0.1", port or self.port), timeout=20)
        return context.wrap_socket(sock, server_hostname=server_name)

    def live_over_grpc(self, client: Pair | None = None) -> bool:
        """Over a new connection."""
        pair = (client.key.read_bytes(), client.certificate.read_bytes()) if client else (None, None)
        credentials = grpc.ssl_channel_credentials(self.ca, *pair)
        with grpc.secure_channel(
            f"localhost:{self.grpc}", credentials, [("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            call = channel.unary_unary(
                "/inference.GRPCInferenceService/ServerLive",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=v2.ServerLiveResponse.FromString,
            )
            return bool(call(v2.ServerLiveRequest(), timeout=20).live)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    started = Tls(tmp_path_factory.mktemp("tls"), "--allowed-origins", ORIGIN, "--access-log", "-")
    yield started
    started.server.close()
    assert "Traceback" not in started.server.log


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    """A server that requires client certificates."""
    folder = tmp_path_factory.mktemp("mutual")
    started = Tls(folder, "--tls-client-ca", str(folder / "ca" / "ca.pem"))
    yield started
    started.server.close()
    assert "Traceback" not in started.server.log


def received(connection: socket.socket) -> bytes:
    """All until the server closes the connection."""
    data = b""
    try:
        while chunk := connection.recv(65536):
            data += chunk
    except (ConnectionError, ssl.SSLError):
        pass
    return data


def subject(connection: ssl.SSLSocket) -> str:
    names = dict(pair[0] for pair in connection.getpeercert()["subject"])  # type: ignore[index, misc]
    return names["commonName"]


# --- all ports and clients


def test_every_port_has_tls_and_the_addresses_say_so(tls: Tls) -> None:
    assert tls.server.url == f"https://127.0.0.1:{tls.port}"
    for port in (tls.port, tls.v1, tls.training):
        response = httpx.get(f"https://localhost:{port}/v2/health/live", verify=tls.authority.trust())
        assert response.content == READY
    assert f"train  https://127.0.0.1:{tls.training}" in tls.server.log
    assert f"v1     https://127.0.0.1:{tls.v1}/v1/models" in tls.server.log
    assert tls.live_over_grpc()
    lock = (tls.server.data_dir / "server.lock").read_text()
    assert lock.splitlines() == [str(tls.server.pid), tls.server.url]


def test_the_daemon_commands_show_the_address(tls: Tls) -> None:
    status = [sys.executable, "server.py", "status", "--data-dir", str(tls.server.data_dir)]
    done = subprocess.run(status, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == f"tfserve is running, pid {tls.server.pid}, {tls.server.url}\n"


def test_a_job_with_output_a_page_and_a_large_body(tls: Tls) -> None:
    http = tls.server.http
    name = tls.server.call("/create_workspace/")
    tls.server.run(name, "print('line\\n' * 50_000)")
    output = http.get("/jobs/1/output")
    assert output.text.count("line") == 50_000
    assert http.get("/", headers={"Accept": "text/html"}).status_code == 200
    text = "x" * 5_000_000
    assert tls.server.call("/json_test/", text=text)["text"] == text


def test_the_python_client(tls: Tls) -> None:
    url = tls.server.url.replace("127.0.0.1", "localhost")
    with Client(url, ca_file=tls.authority.file) as client:
        assert client.is_ready()
        assert "/predict/" in client.guide()
    with (
        Client(url) as client,
        pytest.raises(Unreachable, match=r"CERTIFICATE_VERIFY_FAILED.*\. Name the CA .*ca_file"),
    ):
        client.guide()
    plain, explained = url.replace("https:", "http:"), "its address begins with https://"
    with Client(plain, retries=0) as client, pytest.raises(Unreachable, match=explained):
        client.guide()


def test_curl_and_openssl(tls: Tls) -> None:
    curl = ["curl", "-sS", "--cacert", tls.authority.file, f"https://localhost:{tls.port}/v2/health/live"]
    assert subprocess.run(curl, capture_output=True, check=True, timeout=30).stdout == READY
    for version, works in (("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
        command = ["openssl", "s_client", version, "-CAfile", tls.authority.file, "-verify_return_error",
                   "-cipher", "ALL:@SECLEVEL=0", "-noservername", "-connect", f"127.0.0.1:{tls.port}"]  # fmt: skip
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
        assert (done.returncode == 0) == works, done.stdout


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_node(tls: Tls) -> None:
    program = f"""
        const https = require("https"), fs = require("fs");
        const agent = new https.Agent({{ca: fs.readFileSync({str(tls.authority.file)!r}), keepAlive: true}});
        https.get({{port: {tls.port}, host: "localhost", path: "/v2/health/live", agent}}, (response) => {{
            response.on("data", (data) => console.log(response.statusCode, String(data)));
            response.on("end", () => agent.destroy());
        }});
    """
    done = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == f"200 {READY.decode()}\n"


# --- replaced certificates


def test_a_new_certificate_is_used_without_dropping_connections(tls: Tls) -> None:
    """Also for clients that send no server name."""
    old = tls.connect()
    assert subject(old) == "server"
    tls.pair.replace_by(tls.authority.pair("next"))
    with tls.connect() as named, tls.connect(tls.v1, server_name=None) as unnamed:
        assert (subject(named), subject(unnamed)) == ("next", "next")
    assert tls.live_over_grpc()
    old.sendall(LIVE)
    assert old.recv(65536).startswith(b"HTTP/1.1 200 OK")
    old.close()


def test_a_broken_certificate_leaves_the_last_one_in_use(tls: Tls) -> None:
    with tls.connect() as connection:
        before = subject(connection)
    content = tls.pair.certificate.read_bytes()
    tls.pair.certificate.write_bytes(content[:100])
    for _ in range(3):
        with tls.connect() as connection:
            assert subject(connection) == before
        assert tls.live_over_grpc()
    tls.pair.certificate.write_bytes(content)
    with tls.connect() as connection:
        assert subject(connection) == before
    assert tls.server.log.count("The previous certificate stays in use.") == 2  # HTTP and gRPC


# --- handshakes that fail


def test_plain_http_and_other_bytes_are_refused_at_once(tls: Tls) -> None:
    for data in (LIVE, b"\x00" * 100, bytes(range(256)) * 300, b"\x16\x03\x01\xff\xff" + b"\xff" * 70_000):
        for port in (tls.port, tls.grpc):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                with contextlib.suppress(OSError):  # closed by the server already
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                assert b"HTTP" not in received(connection)
    assert tls.server.http.get("/v2/health/live").status_code == 200


def test_a_handshake_that_is_not_finished_is_closed(tls: Tls) -> None:
    for data in (b"", b"\x16\x03\x01\x02\x00\x01\x00"):
        for port in (tls.port, tls.grpc):
            with socket.create_connection(("127.0.0.1", port), timeout=10 * HANDSHAKE_S) as connection:
                connection.sendall(data)
                assert received(connection)[:4] in (b"", b"\x15\x03\x01\x00", b"\x15\x03\x03\x00")


def test_slow_headers_are_closed(tls: Tls) -> None:
    with tls.connect() as connection:
        connection.settimeout(10 * HANDSHAKE_S)
        connection.sendall(b"GET / HT")
        assert received(connection) == b""


def test_a_client_that_does_not_trust_the_server_leaves_it_alive(tls: Tls) -> None:
    for _ in range(3):
        with pytest.raises(httpx.ConnectError):
            httpx.get(tls.server.url)
    assert tls.server.http.get("/v2/health/live").status_code == 200


# --- client certificates


def test_clients_need_a_certificate_of_the_ca(mutual: Tls, tmp_path: Path) -> None:
    assert mutual.server.http.get("/v2/health/live").status_code == 200
    assert mutual.live_over_grpc(mutual.client)
    stranger = Authority(tmp_path).pair("stranger")
    for pair in (None, stranger):
        with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
            httpx.get(f"{mutual.server.url}/v2/health/live", verify=mutual.authority.trust(pair))
        with pytest.raises(grpc.RpcError):
            mutual.live_over_grpc(pair)


def test_a_session_is_not_resumed_without_another_check(mutual: Tls, tmp_path: Path) -> None:
    session = tmp_path / "session"
    command = ["openssl", "s_client", "-CAfile", mutual.authority.file, "-cert", mutual.client.certificate,
               "-key", mutual.client.key, "-connect", f"localhost:{mutual.port}"]  # fmt: skip
    subprocess.run([*command, "-sess_out", session], input=b"", capture_output=True, timeout=30, check=True)
    assert not session.exists()
    older = subprocess.run([*command, "-tls1_2"], input=b"", capture_output=True, timeout=30, check=False)
    assert older.returncode == 1


def test_a_client_is_refused_as_soon_as_its_ca_is_removed(mutual: Tls, tmp_path: Path) -> None:
    other, content = Authority(tmp_path), mutual.authority.file.read_bytes()
    with mutual.connect() as connection:
        mutual.authority.file.write_bytes(other.file.read_bytes())
        try:
            with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
                httpx.get(f"{mutual.server.url}/v2/health/live", verify=mutual.trust)
            with pytest.raises(grpc.RpcError):
                mutual.live_over_grpc(mutual.client)
        finally:
            mutual.authority.file.write_bytes(content)
        connection.sendall(LIVE)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
    assert mutual.live_over_grpc(mutual.client)


def test_the_python_client_with_a_certificate(mutual: Tls) -> None:
    url = mutual.server.url.replace("127.0.0.1", "localhost")
    pair = mutual.client.certificate, mutual.client.key
    with Client(url, ca_file=mutual.authority.file, certificate=pair) as client:
        assert client.is_ready()


def test_the_command_line_with_a_certificate(
    mutual: Tls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Over the network, and on the machine of the server with its local token."""
    url = mutual.server.url.replace("127.0.0.1", "localhost")
    remote = "--server", url, "--ca-file", str(mutual.authority.file)
    local = "--data-dir", str(mutual.server.data_dir)
    assert main.run(["workspaces", *remote]) == NO_SERVER
    monkeypatch.setenv("TFSERVE_CLIENT_CERT", str(mutual.client.certificate))
    assert main.run(["workspaces", *remote, "--client-key", str(mutual.client.key)]) == 0
    assert main.run(["token", "list", *local, "--client-key", str(mutual.client.key)]) == 0
    assert main.run(["workspaces", *remote, "--client-key", str(tmp_path / "none")]) == 1
    capfd.readouterr()
    assert main.run(["workspaces", *remote]) == 2, "the certificate's file has no key"
    assert "a certificate and the private key that belongs to it" in capfd.readouterr().err


# --- headers


def test_security_headers_of_every_response(tls: Tls) -> None:
    http = tls.server.http
    for path in ("/v2/health/live", "/none", "/static/pages/pages.css", "/jobs/", "/v1/models/none", "/"):
        headers = http.get(path, headers={"Accept": "text/html"}).headers
        assert headers.get_list("x-content-type-options") == ["nosniff"], path
        assert headers["strict-transport-security"] == "max-age=31536000"
    page = http.get("/", headers={"Accept": "text/html"}).headers
    assert page["referrer-policy"] == "same-origin"
    assert "camera=()" in page["permissions-policy"]
    assert page["x-frame-options"] == "DENY"
    policy = page["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_garbage_inside_tls_gets_a_response_with_the_headers(tls: Tls) -> None:
    with tls.connect() as connection:
        connection.sendall(b"garbage\r\n\r\n")
        response = received(connection)
    assert response.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"x-content-type-options: nosniff" in response


# --- start


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--tls-cert", "none.crt", "--tls-key", "none.key"], "TLS can't be used with none.crt: No such file"),
        (["--tls-self-signed", "--tls-cert", "a", "--tls-key", "b"], "tls_self_signed makes a certificate itself"),
    ],
)
def test_the_server_does_not_start_without_a_usable_certificate(
    options: list[str], sentence: str, tmp_path: Path
) -> None:
    command = [sys.executable, "manage.py", "runserver", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"), *options]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
