"""A proxy that stops in the middle of a large request, so that a test can interrupt its client there."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

PIECE = 64 * 1024


class HoldingProxy(socketserver.ThreadingTCPServer):
    """Forwards connections to a server, but only the first `limit` bytes that a client sends over each."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, server_url: str, limit: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.target = (urlsplit(server_url).hostname, urlsplit(server_url).port)
        self.limit = limit
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.is_holding, self.is_over = threading.Event(), threading.Event()


@contextmanager
def holding_proxy(server_url: str, limit: int) -> Iterator[HoldingProxy]:
    with HoldingProxy(server_url, limit) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.is_over.set()
            proxy.shutdown()


class _Connection(socketserver.BaseRequestHandler):
    server: HoldingProxy
    request: socket.socket

    def handle(self) -> None:
        with socket.create_connection(self.server.target) as upstream:
            back = threading.Thread(target=_copy, args=(upstream, self.request), daemon=True)
            back.start()
            left = self.server.limit
            while left > 0 and (data := self.request.recv(min(PIECE, left))):
                upstream.sendall(data)
                left -= len(data)
            if left == 0:
                self.server.is_holding.set()
                self.server.is_over.wait()
            upstream.shutdown(socket.SHUT_RDWR)  # closing is not enough while the other thread reads from it


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(PIECE):
            target.sendall(data)
    except OSError:
        pass  # one of the two has closed its connection
