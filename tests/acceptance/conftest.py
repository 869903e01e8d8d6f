"""A real server for the tests: a subprocess, real sockets, real files."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import httpx
import psutil
import pytest

from tests import databases
from tests.made import made_by
from tests.ray_cluster import nodes
from tfserve_client import Client

REPOSITORY = Path(__file__).parents[2]
START_TIMEOUT_S = 60


RUNSERVER = (sys.executable, "manage.py", "runserver")


class Server:
    """`manage.py runserver`, or another `command`, on a free port, and what a test wants to do with it."""

    running: ClassVar[list[Server]] = []
    """Those that are not closed yet; the fault suite checks after each test that they are alive."""

    def __init__(
        self, data_dir: Path, *options: str, environment: dict[str, str] | None = None,
        command: Sequence[str] = RUNSERVER, folder: Path = REPOSITORY, host: str = "127.0.0.1",
        verify: ssl.SSLContext | bool = True,
    ) -> None:  # fmt: skip
        self.data_dir = data_dir
        self.roots = data_dir.parent
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._cluster = nodes.settings(data_dir)
        roots = os.pathsep.join(map(str, (REPOSITORY, self.roots)))
        self.process = subprocess.Popen(
            [*command, f"{host}:0", "--data-dir", str(data_dir), *options],
            cwd=folder,
            # A conversion takes half a minute of both cores, for every model of every test.
            env={
                **os.environ,
                "TFSERVE_ROOTS": roots,
                "TFSERVE_CONVERT": "0",
                **self._cluster,
                **databases.settings(data_dir),
                **(environment or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._ready.wait(START_TIMEOUT_S), self.log
        match = re.search(r"pages +(https?://\S+?)/?\s", self.log)
        assert match, self.log
        self.url = match[1]
        self.http = httpx.Client(base_url=self.url, timeout=60, verify=verify)
        self._node = nodes.node_of(data_dir, self.url) if nodes.are_used() else None
        Server.running.append(self)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    @property
    def pid(self) -> int:
        return self.process.pid

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if "Ctrl-C stops it" in line:
                self._ready.set()
        self._ready.set()

    def call(self, path: str, /, **fields: Any) -> Any:
        """The result of a call that must be done."""
        answer = self.http.post(path, json=fields)
        assert answer.status_code == 200, answer.text
        assert answer.json()["request_result"] is True
        return answer.json()["result"]

    def refused(self, path: str, /, **fields: Any) -> tuple[int, str]:
        """Status and sentence of a call that must be refused."""
        answer = self.http.post(path, json=fields)
        assert answer.json()["request_result"] is False, answer.text
        assert answer.json()["error"]["message"] == answer.json()["result"]
        return answer.status_code, answer.json()["result"]

    def run(self, name: str, script: str, timeout: float = 60, **fields: Any) -> Any:
        """Runs a script in a workspace and returns the job."""
        return self.call("/push_job/", name=name, job=script, type=1, timeout=timeout, **fields)

    def wait(self, name: str, job: int, timeout: float = 60) -> Any:
        """The job when it has ended. The client does not poll: it follows the output of the job."""
        with Client(self.url, verify=False, timeout=60) as client:
            job_id = next(each["id"] for each in client.jobs(name, limit=1000)[0] if each["job"] == job)
            client.find_job(job_id).wait(timeout)
            return client.job(job_id)

    def until_predicting(self, name: str, count: int) -> None:
        """Returns when `count` predictions run at the same time."""
        revision = 0
        while [job["kind"] for job in self.call("/get_status/", name=name)["running"]] != ["predict"] * count:
            revision = self.http.get("/server/", params={"since": revision}).json()["result"]["revision"]

    def processes(self) -> list[psutil.Process]:
        """The server and all that it started, with those of its node."""
        roots = [psutil.Process(self.pid)]
        if self._node is not None:
            roots.append(psutil.Process(self._node.process.pid))
        return [each for root in roots for each in (root, *root.children(recursive=True))]

    def stop(self, number: int = signal.SIGTERM, timeout: float = 40) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def close(self) -> None:
        """Lets go of everything, after stopping the server if the test has not."""
        if self in Server.running:
            Server.running.remove(self)
        self.http.close()
        if self.process.poll() is None:
            self.stop()
        if self._node is not None:
            self._node.close()
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()


def command(process: psutil.Process) -> str:
    """The command line of a process; nothing once it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as they found it."""
    running = Server(tmp_path_factory.mktemp("shared") / "data", environment={"TFSERVE_WARM_SPARE": "0"})
    yield running
    running.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers of a test's own, on one data folder unless told otherwise."""
    started: list[Server] = []

    def start_one(*options: str, data_dir: Path | None = None, **environment: str) -> Server:
        running = Server(data_dir or tmp_path / "data", *options, environment=environment)
        started.append(running)
        return running

    yield start_one
    for running in started:
        running.close()


@pytest.fixture
def workspace(server: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """A workspace of the test's own on the shared server."""
    name = server.call("/create_workspace/", name=re.sub(r"[^\w .-]", "-", request.node.name)[:90])
    yield name
    if name in server.call("/get_workspace/"):
        server.call("/destroy_workspace/", name=name)


@pytest.fixture(scope="session")
def models(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder below the shared server's roots with small real models."""
    return made_by(Path(__file__).with_name("make_models.py"), tmp_path_factory, into=server.roots / "models")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of real digits, to be copied by tests that train on it."""
    from tests.acceptance.training_calls import digit_project

    return digit_project(tmp_path_factory.mktemp("digits") / "project")
