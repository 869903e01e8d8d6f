"""One training through a real server, watched by the lines that it prints: what it takes and how good it becomes."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import psutil

from benchmarks.server_process import ServerProcess

MIB = 2**20
LOOK_EVERY_S = 0.2
_EPOCH = re.compile(r"epoch \d+ of \d+:")


@dataclass
class Measured:
    """`fit_s` is from the first line, before any image is read, to the end of the last epoch."""

    task: dict[str, Any]
    total_s: float
    fit_s: float
    core_share: float
    peak_bytes: int
    polls: int = 0

    @property
    def metrics(self) -> dict[str, Any]:
        metrics: dict[str, Any] = self.task["metrics"]
        return metrics


class _Moment(NamedTuple):
    """When a line came, and the processor time that the worker had taken."""

    at_s: float
    processor_s: float


@dataclass
class _Lines:
    """A linear head has no epochs; then all lines count."""

    all: list[_Moment] = field(default_factory=list)
    epochs: list[_Moment] = field(default_factory=list)

    def see(self, line: str, worker: psutil.Process) -> None:
        try:
            moment = _Moment(time.perf_counter(), sum(worker.cpu_times()[:2]))
        except psutil.NoSuchProcess:  # the last lines are read after the end
            return
        self.all.append(moment)
        if _EPOCH.match(line):
            self.epochs.append(moment)

    def fit_s(self) -> float:
        """Seconds from the first line to the last epoch."""
        return (self.epochs or self.all)[-1].at_s - self.all[0].at_s

    def core_share(self) -> float:
        """Of two cores, between the first epoch, which builds everything, and the last."""
        moments = self.epochs if len(self.epochs) > 1 else self.all
        took_s = moments[-1].at_s - moments[0].at_s
        return (moments[-1].processor_s - moments[0].processor_s) / max(took_s, 1e-9) / 2


def train(
    server: ServerProcess,
    project: Path,
    train_type: str = "classification",
    *,
    polls_per_s: int = 0,
    **parameters: object,
) -> Measured:
    """From the POST to `done`. The output is followed as it comes, so nothing is asked again and again."""
    fields = {"userId": "bench", "projectId": project.name, "projectDir": str(project), "trainType": train_type}
    started_at = time.perf_counter()
    if parameters:
        task = _checked(server.http.post("/tasks/", json=fields | {"parameters": parameters}))
    else:
        task = _checked(server.http.post("/", data=fields))
    lines = _Lines()
    with _peak(server, task["taskId"]) as peak, _polling(server.url, task["taskId"], polls_per_s) as polls:
        for line in _output(server, task["taskId"]):
            lines.see(line, peak.worker())
        total_s = time.perf_counter() - started_at
    task = _checked(server.http.get("/", params={"taskId": task["taskId"]}))
    if task["state"] != "done":
        raise RuntimeError(task)
    return Measured(task, total_s, lines.fit_s(), lines.core_share(), peak.size, polls.count)


def _checked(answer: Any) -> dict[str, Any]:
    if answer.status_code != 200:
        raise RuntimeError(answer.text)
    content: dict[str, Any] = answer.json()
    return content


def _output(server: ServerProcess, task_id: str) -> Iterator[str]:
    """The lines that the training prints, until it has ended."""
    address = f"/tasks/{task_id}/output"
    with server.http.stream("GET", address, headers={"Accept": "text/event-stream"}, timeout=600) as events:
        for line in events.iter_lines():
            if line == "event: end":
                return
            if line.startswith("data: "):
                yield from json.loads(line[6:])["text"].splitlines()


class _Peak:
    """The largest memory of a train worker. The kernel keeps it; it is looked at until the worker has gone."""

    def __init__(self, server: ServerProcess, task_id: str) -> None:
        self.size = 0
        self._server = server
        self._task_id = task_id
        self._process: psutil.Process | None = None

    def worker(self) -> psutil.Process:
        if self._process is None:
            task = _checked(self._server.http.get("/", params={"taskId": self._task_id}))
            self._process = psutil.Process(int(task["thread"].rpartition("-")[2]))
        return self._process

    def look(self) -> None:
        if self._process is not None:
            try:
                status = Path(f"/proc/{self._process.pid}/status").read_text()
            except OSError:
                return
            if found := re.search(r"VmHWM:\s+(\d+) kB", status):
                self.size = int(found[1]) * 1024


class _Polls:
    count = 0


@contextmanager
def _peak(server: ServerProcess, task_id: str) -> Iterator[_Peak]:
    peak = _Peak(server, task_id)
    with _every(LOOK_EVERY_S, peak.look):
        yield peak


@contextmanager
def _polling(url: str, task_id: str, polls_per_s: int) -> Iterator[_Polls]:
    """Asks how the task is, as the site's back-end does, but so many times a second."""
    polls = _Polls()
    if not polls_per_s:
        yield polls
        return
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

    def ask() -> None:
        connection.request("GET", "/?" + urlencode({"taskId": task_id}))
        json.load(connection.getresponse())
        polls.count += 1

    with _every(1 / polls_per_s, ask):
        yield polls
    connection.close()


@contextmanager
def _every(seconds: float, act: Any) -> Iterator[None]:
    """Calls something in a thread at a steady pace."""
    over = threading.Event()

    def run() -> None:
        due = time.monotonic()
        while not over.wait(max(0.0, due - time.monotonic())):
            act()
            due += seconds

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
