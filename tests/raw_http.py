"""HTTP as bytes on a socket, for what clients hide."""

from __future__ import annotations

import re
import socket

DATE = re.compile(rb"\r\ndate: [^\r]+", re.IGNORECASE)


class Connection:
    """A connection that sends requests in one piece, and receives responses as bytes without their date."""

    def __init__(self, url: str) -> None:
        host, port = url.rpartition("//")[2].split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._host = f"{host}:{port}"
        self._received = b""

    def ask(self, path: str, body: bytes, *headers: str) -> bytes:
        self.send(self.request(path, body, *headers))
        return self.receive()

    def request(self, path: str, body: bytes, *headers: str) -> bytes:
        lines = [f"POST {path} HTTP/1.1", f"Host: {self._host}", "X-Request-Id: same", *headers]
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> bytes:
        """The next response."""
        while (length := _length(self._received)) is None or len(self._received) < length:
            piece = self._socket.recv(65536)
            if not piece:
                break
            self._received += piece
        response, self._received = self._received[:length], self._received[length or len(self._received) :]
        return DATE.sub(b"", response)

    def close(self) -> None:
        self._socket.close()


def _length(received: bytes) -> int | None:
    head, end, _ = received.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head)
    return len(head) + len(end) + int(found[1]) if end and found else None
