"""Processor time of a request with and without TLS, and of a handshake: `python -m benchmarks.tls_cost`.

A raw client on one keep-alive connection asks an echo model of 4 numbers over v2. Only the web process is measured.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.server_process import ServerProcess

BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}).encode()
HEAD = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
REQUEST = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


class Measured:
    """A server with the model, and connections to it."""

    def __init__(self, server: ServerProcess, certificate: Path | None) -> None:
        self._context = ssl.create_default_context(cafile=certificate) if certificate else None
        self._port = int(server.url.rpartition(":")[2])
        self._web = next(process for process in server.tree() if "tfserve.web.app" in process.cmdline())

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        sock = socket.create_connection(("127.0.0.1", self._port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._context.wrap_socket(sock, server_hostname="localhost") if self._context else sock as connection:
            yield connection

    def cpu_us(self) -> float:
        """Of all threads, in the kernel's finest unit."""
        threads = Path(f"/proc/{self._web.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1000

    def request_us(self, count: int) -> float:
        with self.connection() as connection:
            before = self.cpu_us()
            for _ in range(count):
                connection.sendall(REQUEST)
                connection.recv(65536)  # small enough to arrive in one piece
            return (self.cpu_us() - before) / count

    def connection_us(self, count: int) -> float:
        before = self.cpu_us()
        for _ in range(count):
            with self.connection() as connection:
                connection.sendall(REQUEST)
                connection.recv(65536)
        return (self.cpu_us() - before) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {
            "without TLS": stack.enter_context(started(Path(folder, "plain"))),
            "with TLS": stack.enter_context(started(Path(folder, "tls"), "--tls-self-signed")),
        }
        requests: dict[str, list[float]] = {name: [] for name in servers}
        connections: dict[str, list[float]] = {name: [] for name in servers}
        for _ in range(given.rounds):  # alternately, because other programs may run on the machine
            for name, server in servers.items():
                requests[name].append(server.request_us(given.requests))
                connections[name].append(server.connection_us(given.requests // 10))
    for name in servers:
        print(
            f"{name}: {statistics.median(requests[name]):.1f} µs per request,"
            f" {statistics.median(connections[name]):.0f} µs per new connection with one request"
        )


@contextmanager
def started(folder: Path, *options: str) -> Iterator[Measured]:
    folder.mkdir()
    (folder / "model.echo").write_text(json.dumps({"x": {"dtype": "float32", "shape": [-1, 4]}}))
    server = ServerProcess(folder, "--no-warm-spare", *options)
    certificate = folder / "data" / "tls" / "self-signed.crt" if options else None
    with server:
        if certificate:
            server.trust(certificate)
        server.call("/create_workspace/", name="echo")
        server.call("/deploy/", name="echo", path=str(folder / "model.echo"), timeout=60)
        yield Measured(server, certificate)


if __name__ == "__main__":
    main()
