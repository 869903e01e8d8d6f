"""A cluster on machines made of network namespaces: a head on the first, nodes on the others. Driven over HTTP only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.ray_cluster.machines import Machine
from tfserve.cluster.identity import Authority

REPOSITORY = Path(__file__).parents[2]
PORT = 8000
START_S = 120
SETTLE_S = 60
STARTED = "Ctrl-C stops it"


class Program:
    """A program on a machine, with what it has printed."""

    def __init__(self, machine: Machine, arguments: list[str], environment: dict[str, str]) -> None:
        self.machine = machine
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._has_ended = False
        self.process = machine.start(
            arguments, cwd=REPOSITORY, env={**os.environ, **environment}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, errors="replace",
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def until(self, text: str) -> None:
        """Until it has printed this."""
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.log or self._has_ended, START_S), self.log
        assert text in self.log, self.log

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def close(self) -> None:
        """After its end."""
        self.process.wait(60)
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()


class Cluster:
    """The head on the first machine, a node on each other one."""

    def __init__(self, machines: list[Machine], folder: Path, **settings: str) -> None:
        self.folder = folder
        self.head_machine, *self.node_machines = machines
        self.data_dir = folder / "data"
        self.models = folder / "models"
        self.models.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.nodes: dict[str, Program] = {}
        self.programs: list[Program] = []
        self.head = self.start_head()
        self.http = httpx.Client(base_url=self.url, timeout=90)

    @property
    def url(self) -> str:
        return f"http://{self.head_machine.address}:{PORT}"

    def url_of(self, machine: Machine) -> str:
        return f"http://{machine.address}:{PORT}"

    # --- programs

    def start_head(self, machine: Machine | None = None, *options: str, waits: bool = True) -> Program:
        machine = machine or self.head_machine
        environment = {
            "TFSERVE_ROOTS": str(self.folder), "TFSERVE_CONVERT": "0", "TFSERVE_AUTH": "off",
            "TFSERVE_ALLOW_UNAUTHENTICATED": "1", "TFSERVE_CLUSTER": "ray", **self.settings,
        }  # fmt: skip
        address = f"{machine.address}:{PORT}"
        head = Program(
            machine,
            [sys.executable, "-m", "tfserve.cli", "serve", address, "--data-dir", str(self.data_dir), *options],
            environment,
        )
        self.programs.append(head)
        if waits:
            head.until(STARTED)
        return head

    def move_to(self, machine: Machine, head: Program) -> None:
        """The head is on this machine from now on."""
        self.head_machine, self.head = machine, head
        self.http.close()
        self.http = httpx.Client(base_url=self.url, timeout=90)

    @property
    def token(self) -> str:
        return str(Authority.open(self.data_dir / "cluster").join_token())

    def start_node(
        self, machine: Machine, *options: str, token: str | None = None, standbys: Sequence[Machine] = (),
        waits: bool = True, program: Sequence[str] = ("-m", "tfserve.cli"),
    ) -> Program:  # fmt: skip
        heads = ",".join(f"{each.address}:7700" for each in (self.head_machine, *standbys))
        node = Program(
            machine,
            [
                sys.executable, *program, "node", heads,
                "--token", token or self.token, "--name", machine.name, "--folder", str(self.folder / machine.name),
                "--host", machine.address, "--port", str(PORT), *options,
            ],
            {"TFSERVE_ALLOW_UNAUTHENTICATED": "1"},
        )  # fmt: skip
        self.programs.append(node)
        if waits:
            self.nodes[machine.name] = node
            node.until("is ready")
            self.until_node(machine.name, "ready")
        return node

    def close(self) -> None:
        self.http.close()
        for program in [*self.nodes.values(), self.head]:
            if program.process.poll() is None:
                program.process.terminate()
        for machine in [self.head_machine, *self.node_machines]:
            machine.kill_all()
        for program in self.programs:
            program.close()

    # --- calls

    def call(self, path: str, /, **fields: Any) -> Any:
        """The result of a call that must be done."""
        answer = self.http.post(path, json=fields)
        assert answer.status_code == 200, answer.text
        assert answer.json()["request_result"] is True
        return answer.json()["result"]

    def run(self, name: str, script: str, **fields: Any) -> Any:
        return self.call("/push_job/", name=name, job=script, type=1, timeout=60, **fields)

    def job(self, job: dict[str, Any]) -> Any:
        """A job as it is now, from the response to its submission."""
        return self.http.get(f"/jobs/{job['id']}").json()["result"]

    def status(self, name: str) -> Any:
        return self.call("/get_status/", name=name)

    def server(self) -> Any:
        return self.http.get("/server/").json()["result"]

    def node(self, name: str) -> Any:
        return next((each for each in self.server()["nodes"] if each["name"] == name), None)

    def until_node(self, name: str, state: str) -> Any:
        return self.until(lambda: each if (each := self.node(name)) and each["state"] == state else None)

    def until(self, found: Callable[[], Any], timeout_s: float = SETTLE_S) -> Any:
        """What `found` returns once it is true. Follows the changes of the server, without polling."""
        revision, ends_at = 0, time.monotonic() + timeout_s
        while not (result := found()):
            assert time.monotonic() < ends_at, f"not within {timeout_s} s: {self.server()}\n{self.head.log[-4000:]}"
            answer = self.http.get("/server/", params={"since": revision, "wait": 5}).json()["result"]
            revision = answer["revision"]
        return result

    def workspace(self, name: str, **fields: Any) -> None:
        self.call("/create_workspace/", name=name, **fields)

    def deploy(self, name: str, path: Path, **fields: Any) -> Any:
        return self.call("/deploy/", name=name, path=str(path), timeout=90, **fields)

    def replicas(self, name: str) -> list[dict[str, Any]]:
        """The processes of a model, with the node of each."""
        deployment = self.status(name)["deployment"]
        return list(deployment["processes"]) if deployment else []


@contextmanager
def two_nodes(machines: list[Machine], folder: Path, **settings: str) -> Iterator[Cluster]:
    """A head that runs no worker itself, and a node on each other machine."""
    cluster = Cluster(machines, folder, **{"TFSERVE_HEAD_RUNS_WORKERS": "0", **settings})
    try:
        for machine in cluster.node_machines:
            cluster.start_node(machine)
        yield cluster
    finally:
        cluster.close()
        for machine in machines:
            machine.make_fast()
            machine.heal()
