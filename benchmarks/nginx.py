"""The limit of every HTTP server: nginx returns a constant that is as long as a real response.

`apt-get install nginx-light`
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.participants import Running, free_port, wait_for_answers
from benchmarks.peers.environments import Unavailable
from benchmarks.process_tree import ProcessTree
from benchmarks.requests import Request, Samples, instances, v2

# One worker: the other core is for wrk. nginx reads the body of a request and drops it.
CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    client_max_body_size 0;
    client_body_buffer_size 8m;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port} backlog=1024 reuseport;
        location = /json {{ default_type application/json; {json} }}
        location = /binary {{ default_type application/octet-stream; {binary} }}
        location / {{ return 404; }}
    }}
}}
"""
LONGEST = 2000
"""A text in nginx's configuration is limited to 4096 characters, and is joined from several."""


class Nginx:
    name, title = "nginx", "nginx returning a constant"

    def ask(self, row: str, samples: Samples) -> Request | str:
        """Bodies as TFserve gets them; the response is the expected one, but for its text."""
        path = "/binary" if row == "mobilenet-raw" else "/json"
        request = v2(path, row, samples) if row == "mobilenet-raw" else instances(path, row, samples)
        return Request(path, request.body, lambda _headers, _body: samples.expected(row), request.headers)

    def versions(self) -> str:
        shown = subprocess.run([program(), "-v"], capture_output=True, text=True, check=True).stderr
        return shown.strip().removeprefix("nginx version: ")

    @contextmanager
    def serve(self, model: str, path: Path, folder: Path) -> Iterator[Running]:
        port, log = free_port(), folder / "nginx.out"
        sizes = response_sizes(Samples(path.parent), model)
        configuration = folder / "nginx.conf"
        constants = {name: constant(size) for name, size in sizes.items()}
        configuration.write_text(CONFIGURATION.format(folder=folder, port=port, **constants))
        with log.open("wb") as output:
            command = [program(), "-p", str(folder), "-c", str(configuration), "-e", str(log)]
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        tree = ProcessTree(process.pid)
        try:
            wait_for_answers(process, port, log)
            yield Running(f"http://127.0.0.1:{port}", tree)
        finally:
            tree.stop()


def program() -> str:
    if (found := shutil.which("nginx")) is None:
        raise Unavailable("nginx is missing: apt-get install nginx-light")
    return found


def response_sizes(samples: Samples, model: str) -> dict[str, int]:
    """Bytes of a response in v1's JSON, and of one in v2's binary extension."""
    expected: Any = samples.expected("small-json" if model == "small" else "mobilenet-raw")
    return {"json": len(json.dumps({"predictions": [expected.tolist()]})), "binary": 4 * expected.size + 150}


def constant(size: int) -> str:
    """The directives that return `size` bytes."""
    parts = [min(LONGEST, size - begin) for begin in range(0, size, LONGEST)]
    lines = [f'set $part{n} "{"x" * length}";' for n, length in enumerate(parts)]
    return " ".join([*lines, f'return 200 "{"".join(f"$part{n}" for n in range(len(parts)))}";'])
