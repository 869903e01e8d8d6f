"""A proxy that stops in the middle of a large request, so that a test can interrupt its client there.

python -m tests.acceptance.holding_proxy URL LIMIT

Prints its own address, and `holding` once a client has sent LIMIT bytes over one connection. Nothing more of that
connection is forwarded.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from urllib.parse import urlsplit

PIECE = 64 * 1024


class HoldingProxy(socketserver.ThreadingTCPServer):
    def __init__(self, server_url: str, limit: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.target = (urlsplit(server_url).hostname, urlsplit(server_url).port)
        self.limit = limit


class _Connection(socketserver.BaseRequestHandler):
    server: HoldingProxy
    request: socket.socket

    def handle(self) -> None:
        with socket.create_connection(self.server.target) as upstream:
            threading.Thread(target=_copy, args=(upstream, self.request), daemon=True).start()
            left = self.server.limit
            while left > 0 and (data := self.request.recv(min(PIECE, left))):
                upstream.sendall(data)
                left -= len(data)
            if left == 0:
                print("holding", flush=True)
                threading.Event().wait()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(PIECE):
            target.sendall(data)
    except OSError:
        pass  # one of the two has closed its connection


if __name__ == "__main__":
    with HoldingProxy(sys.argv[1], int(sys.argv[2])) as proxy:
        print(f"http://127.0.0.1:{proxy.server_address[1]}", flush=True)
        proxy.serve_forever()
