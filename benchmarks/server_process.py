"""A server to measure, and what its processes cost."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import httpx
import psutil

from benchmarks.process_tree import ProcessTree

REPOSITORY = Path(__file__).parents[1]
CACHE = Path(os.environ.get("BENCHMARKS_CACHE") or REPOSITORY / ".benchmarks")
"""Models, the peers' environments and results: all that takes long to make. Several checkouts may share it."""


class ServerProcess:
    """`tfserve serve` on a free port and a data folder of its own; a context manager."""

    def __init__(self, folder: Path, *options: str, checkout: Path = REPOSITORY, **environment: str) -> None:
        """`checkout` is the folder whose code is run; `environment` is added to that of this process."""
        self.folder = folder
        self._options = options
        self._checkout = checkout
        roots = os.pathsep.join(map(str, (REPOSITORY, CACHE, self.folder)))
        code = os.pathsep.join(map(str, (checkout, checkout / "clients" / "python")))
        self._environment = {**os.environ, "TFSERVE_ROOTS": roots, "PYTHONPATH": code, **environment}

    def __enter__(self) -> ServerProcess:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "manage.py",
                "runserver",
                "127.0.0.1:0",
                "--data-dir",
                str(self.folder / "data"),
                *self._options,
            ],
            cwd=self._checkout,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes = ProcessTree(self.process.pid)
        assert self.process.stdout is not None
        head = ""
        while (match := re.search(r"pages +(https?://\S+?)/\s", head)) is None:
            if not (line := self.process.stdout.readline()):
                raise RuntimeError(f"the server ended with {self.process.wait(60)} at its start {head}")
            head += line
        self.url = match[1]
        self.http = httpx.Client(base_url=self.url, timeout=120)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:  # the exit code shows it; the other participants are still measured
            self.processes.stop(patience_s=0)

    def trust(self, certificate: Path) -> None:
        """Makes `http` trust the server's own certificate."""
        self.http.close()
        context = ssl.create_default_context(cafile=certificate)
        self.http = httpx.Client(base_url=self.url, timeout=120, verify=context)

    def call(self, path: str, /, **fields: object) -> object:
        content = self.http.post(path, json=fields).json()
        if content["request_result"] is not True:
            raise RuntimeError(content)
        return content["result"]

    def tree(self) -> list[psutil.Process]:
        return self.processes.processes()

    def pss_bytes(self) -> int:
        """Proportional set size of the server and all that it started."""
        return self.processes.pss_bytes()

    def cpu_share(self, seconds: float) -> float:
        """Processor time that the whole tree takes while nothing is asked, as a share of one core."""
        before = self.processes.cpu_s()
        time.sleep(seconds)  # the measured quantity is what happens in this time
        return (self.processes.cpu_s() - before) / seconds

    def wait_for_spare(self) -> None:
        """Returns when a warm spare is ready: told by the server, not looked for again and again."""
        query: dict[str, int] = {}
        while (server := self.http.get("/server/", params=query).json()["result"])["spare"] is None:
            query = {"since": server["revision"]}
