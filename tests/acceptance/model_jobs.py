"""What tests of deferred predictions, batches and callbacks have in common."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import psutil

from tests.acceptance.conftest import Server, command
from tests.protocols import echo

LATER = {"Prefer": "respond-async"}


def with_echo(server: Server, name: str = "m") -> None:
    """Deploys an echo model in a new workspace."""
    server.call("/create_workspace/", name=name)
    path = echo.write(server.roots / f"{name}.echo", two=echo.TWO)
    assert server.call("/deploy/", name=name, path=str(path), timeout=60)["result"] is True


def ended(server: Server, job_id: int) -> Any:
    """The job, once it has ended."""
    while True:
        job = server.http.get(f"/jobs/{job_id}/", params={"wait": 60}).json()["result"]
        if job["state"] not in ("queued", "running"):
            return job


def batch_output(server: Server, job_id: int) -> list[Any]:
    """The lines of a batch's output."""
    answer = server.http.get(f"/batch/{job_id}/output")
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def rows_file(folder: Path, count: int, name: str = "rows.jsonl") -> Path:
    """Rows that an echo model returns as they are."""
    file = folder / name
    file.write_text("".join(f"[{n}, 0, {-n}]\n" for n in range(count)))
    return file


def process_of(server: Server, program: str) -> psutil.Process:
    """The process of the server with this in its command line."""
    return next(each for each in server.processes() if program in command(each))


def files_of(server: Server) -> set[str]:
    """The folders of the jobs."""
    folder = server.data_dir / "model-jobs"
    return set(os.listdir(folder)) if folder.exists() else set()


class Receiver:
    """A program that receives callbacks. `requests` has (headers, body) of each, `statuses` what it responds with."""

    def __init__(self, *statuses: int) -> None:
        self.requests: Queue[tuple[dict[str, str], bytes]] = Queue()
        self.statuses = list(statuses)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.statuses.pop(0) if receiver.statuses else 204
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", f"{receiver.url}/moved")
                self.send_header("Content-Length", "0")
                self.end_headers()
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.put(({**headers, "path": self.path}, body))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def next(self, timeout_s: float = 30) -> tuple[dict[str, str], Any]:
        headers, body = self.requests.get(timeout=timeout_s)
        return headers, body

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def receiver(*statuses: int) -> Iterator[Receiver]:
    running = Receiver(*statuses)
    try:
        yield running
    finally:
        running.close()
