"""One chaos run from its start to its report."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from statistics import median

import httpx
from rich.console import Console
from rich.table import Table

from faults.chaos import checker, recorded
from faults.chaos.clients import Client, Deployer, Predictor, Submitter, Trainer
from faults.chaos.disk import Disk
from faults.chaos.journal import Journal
from faults.chaos.killer import Killer
from faults.chaos.probe import WORKSPACE as PROBE
from faults.chaos.probe import Probe
from faults.chaos.server import KeptServer
from tests.acceptance.postgresql_server import PostgreSQL

WORKSPACES = {"shared": 0, "threads": 1, "model": 0, PROBE: 0}
"""Names and types."""
DRAINED_WITHIN_S = 180.0
SHM = Path("/dev/shm")
KILLED = -signal.SIGKILL
OPTIONS = ("--keep-jobs", "1000000", "--drain-s", "3", "--cancel-grace-s", "1")


class Run:
    def __init__(
        self, folder: Path, disk: Disk, seed: int, seconds: float, postgresql: PostgreSQL | None, only: str
    ) -> None:
        self._folder, self._disk, self._seed, self._seconds, self._only = folder, disk, seed, seconds, only
        self._url = postgresql.url if postgresql else ""
        for name in ("journals", "ran", "models", "projects"):
            (folder / name).mkdir()
        roots = os.pathsep.join(str(folder / name) for name in ("models", "projects"))
        environment = {"TFSERVE_ROOTS": roots, "TFSERVE_CONVERT": "0", "TFSERVE_DATABASE_URL": self._url}
        self._shm = {path.name for path in SHM.iterdir()}
        options = (*OPTIONS, "--web-processes", str(1 + seed % 2))
        self._server = KeptServer(folder, disk.folder / "data", *options, environment=environment)
        self._probe = Probe(self._server.url)
        self._harm = Journal(folder / "journals" / "killer.journal")
        self._killer = Killer(self._server, disk, self._probe, self._harm, seed, postgresql)
        self._problems: list[str] = []

    def report(self) -> bool:
        """Runs, checks and prints. Whether nothing was found."""
        self._server.start()
        for name, kind in WORKSPACES.items():
            httpx.post(f"{self._server.url}/create_workspace/", json={"name": name, "type": kind}).raise_for_status()
        clients = [each for each in self._clients() if self._only in each.name]
        self._work(clients)
        self._drain()
        findings = checker.check(self._server.url, self._folder / "journals", self._folder / "ran")
        self._stop()
        findings.violations += recorded.problems(self._server.data_dir, self._url)
        for name, problems in [(each.name, each.problems) for each in clients] + [("killer", self._killer.problems)]:
            findings.violations += [f"{name}: {problem}" for problem in problems]
        findings.violations += self._problems
        self._print(findings, sum((each.statuses for each in clients), Counter()))
        return not findings.violations

    def _clients(self) -> list[Client]:
        rest = (self._server.url, self._folder / "journals", self._seed)
        ran = self._folder / "ran"
        deployer = Deployer("deployer", "model", self._folder / "models", *rest)
        return [
            Submitter("submitter1", "shared", ran / "shared", *rest),
            Submitter("submitter2", "shared", ran / "shared", *rest),
            Submitter("submitter3", "threads", ran / "threads", *rest),
            deployer,
            Predictor("predictor1", "model", "v1", deployer.has_deployed, *rest),
            Predictor("predictor2", "model", "v2", deployer.has_deployed, *rest),
            Predictor("predictor3", "model", "job", deployer.has_deployed, *rest),
            Trainer("trainer", self._project, *rest),
        ]

    def _project(self, number: int) -> Path:
        from tests.acceptance.training_calls import digit_project

        project = digit_project(self._folder / "projects" / str(number), per_class=24)
        for label in range(3, 10):
            shutil.rmtree(project / "images" / f"Digit_{label}")
        return project

    def _work(self, clients: list[Client]) -> None:
        for each in (*clients, self._killer):
            each.start()
        self._killer.is_over.wait(self._seconds)
        self._killer.is_over.set()
        self._killer.join()
        self._disk.free()
        for process in self._server.processes():
            process.send_signal(signal.SIGCONT)
        if not self._server.serving.wait(DRAINED_WITHIN_S):
            self._problems.append("the server did not serve again after the last harm")
        for each in clients:
            each.is_over.set()
        for each in clients:
            each.join()

    def _drain(self) -> None:
        """Returns when all jobs have ended."""
        deadline = time.monotonic() + DRAINED_WITHIN_S
        with httpx.Client(base_url=self._server.url, timeout=60) as http:
            tasks = http.get("/tasks/", params={"limit": 1000}).json()["tasks"]
            for task in tasks:
                http.post(f"/tasks/{task['taskId']}/cancel")
            while time.monotonic() < deadline:
                states = ("queued", "running")
                left = sum(
                    http.get("/jobs/", params={"state": state, "limit": 1}).json()["result"]["total"]
                    for state in states
                )
                if not left:
                    return
                for name in WORKSPACES:
                    if http.post("/get_status/", json={"name": name}).json()["result"]["STATUS"] == "EXCEPT":
                        http.post("/restart_workspace/", json={"name": name})
                time.sleep(0.25)
        self._problems.append(f"{left} jobs were still queued or running {DRAINED_WITHIN_S:.0f} s after the last harm")

    def _stop(self) -> None:
        """The final stop, and what must not be left."""
        try:
            if (code := self._server.stop()) != 0:
                self._problems.append(f"the final stop ended with {code}")
        except subprocess.TimeoutExpired:
            self._problems.append("the final stop did not end within a minute")
        self._problems += [f"left over: process {each}" for each in self._server.leftovers()]
        new = {path.name for path in SHM.iterdir() if not path.name.startswith("PostgreSQL.")} - self._shm
        shared = [SHM / name for name in new - (_in_use() if new else set())]
        self._problems += [f"left over: {path}" for path in self._server.temporary.iterdir()]
        sockets = [path for path in self._server.data_dir.rglob("*") if path.is_socket() or path.suffix == ".new"]
        self._problems += [f"left over: {path}" for path in (*sockets, *shared)]
        if "Traceback" in (text := self._server.log.read_text(errors="replace")):
            at = text.index("Traceback")
            self._problems.append(f"a traceback in the log ({text.count('Traceback')} in all): {text[at : at + 3000]}")

    def _print(self, found: checker.Findings, statuses: Counter[int | str]) -> None:
        table = Table(title=f"Chaos, seed {self._seed}, {'PostgreSQL' if self._url else 'SQLite'}", show_header=False)
        for name, count in sorted(self._killer.done.items()):
            table.add_row(name, str(count))
        table.add_section()
        ends = Counter(self._server.exit_codes)
        rows: dict[str, object] = {
            "ends of the server by exit code": ", ".join(f"{code} ×{count}" for code, count in sorted(ends.items())),
            "jobs intended / acknowledged": f"{found.intended} / {found.acknowledged}",
            "jobs recorded by state": ", ".join(f"{state} {count}" for state, count in sorted(found.states.items())),
            "acknowledged jobs lost": found.lost,
            "jobs duplicated": found.duplicated,
            "predictions checked": found.predictions,
            "training tasks acknowledged": found.tasks,
            "responses by status": ", ".join(f"{name} ×{count}" for name, count in sorted(statuses.items(), key=str)),
            "worker's death → reported": spread(self._probe.reported_s),
            "worker's death → next job done": spread(self._probe.next_job_s),
            "kill -9 of the server → serving again": spread([s for code, s in self._server.restarts if code == KILLED]),
            "other ends of the server → serving again": spread(
                [s for code, s in self._server.restarts if code != KILLED]
            ),
            "violations": len(found.violations),
        }
        for name, value in rows.items():
            table.add_row(name, str(value))
        Console(width=140).print(table)
        for violation in found.violations[:60]:
            print(f"VIOLATION {violation}")


def spread(seconds: list[float]) -> str:
    if not seconds:
        return "not measured"
    return f"median {median(seconds):.2f} s, max {max(seconds):.2f} s ({len(seconds)} times)"


def _in_use() -> set[str]:
    """Names of the shared memory that any program on this machine has mapped."""
    names: set[str] = set()
    for path in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            names |= set(re.findall(rf"{SHM}/(\S+)", path.read_text(errors="replace")))
    return names
