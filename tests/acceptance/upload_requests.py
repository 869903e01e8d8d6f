"""What tests of uploads send and read."""

from __future__ import annotations

import io
import socket
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.acceptance.conftest import Server
from tests.protocols import echo


def echo_model(folder: Path) -> bytes:
    return echo.write(folder / "m.echo", two=echo.TWO).read_bytes()


def result(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.json()["request_result"] is False
    return answer.status_code, answer.json()["result"]


def send(server: Server, name: str, content: bytes, **options: Any) -> Any:
    return result(server.http.post("/upload/", params={"name": name, **options}, content=content))


def begin(server: Server, name: str, size: int, **options: Any) -> str:
    created = result(server.http.post("/upload/", params={"name": name, "size": size, **options}))
    assert (created["state"], created["offset"], created["progress"]) == ("receiving", 0, 0)
    return str(created["id"])


def append(server: Server, id_: str, offset: int, content: bytes) -> httpx.Response:
    return server.http.patch(f"/upload/{id_}", params={"offset": offset}, content=content)


def zipped(**files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return file.getvalue()


def folders(server: Server) -> set[str]:
    return {each.name for each in (server.data_dir / "uploads").iterdir()}


def half_sent(server: Server, line: str, content: bytes, length: int) -> socket.socket:
    """A request whose body is not complete yet."""
    address = urlsplit(server.url)
    sock = socket.create_connection((address.hostname, address.port), timeout=20)
    sock.sendall(f"{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode() + content)
    return sock


def until_offset(server: Server, id_: str, offset: int) -> None:
    """Returns when this number of bytes has arrived and the last write has ended."""
    while append(server, id_, 10**9, b"x").status_code == 503 or arrived(server, id_) != offset:
        pass


def arrived(server: Server, id_: str) -> int:
    """How many bytes of an upload have arrived."""
    return int(result(server.http.get(f"/upload/{id_}"))["offset"])
