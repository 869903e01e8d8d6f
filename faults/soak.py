"""`make soak`: constant mixed load; memory, file descriptors, threads and latency of every process must stay flat."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from faults.chaos import versions
from faults.chaos.server import KeptServer

WARM_UP_SHARE = 0.3
"""The part of the run whose samples are not used: caches fill, malloc's arenas grow."""
SAMPLE_EVERY_S = 10.0
Z = 3.0
"""A slope counts if it is this many standard errors above zero."""


@dataclass(frozen=True)
class Limit:
    """Growth per hour that is accepted, and its unit."""

    per_hour: float
    unit: str


LIMITS = {"memory": Limit(30.0, "MiB"), "fds": Limit(6.0, ""), "threads": Limit(3.0, ""), "p99": Limit(20.0, "ms")}
"""A smaller slope does no harm within a week, and can't be distinguished from noise within half an hour."""

Samples = dict[tuple[str, str], list[tuple[float, float]]]
"""(process, quantity) → pairs of seconds and value."""


@dataclass(frozen=True)
class Slope:
    per_hour: float
    error: float
    first: float
    last: float

    @property
    def is_clear(self) -> bool:
        return self.per_hour - Z * self.error > 0

    def grows(self, limit: Limit) -> bool:
        """Whether it is clearly positive, and by more than what is accepted."""
        return self.is_clear and self.per_hour > limit.per_hour

    def verdict(self, limit: Limit) -> str:
        return "GROWS" if self.grows(limit) else "grows, below the limit" if self.is_clear else "flat"


def fit(points: list[tuple[float, float]]) -> Slope | None:
    """The straight line through the points, by least squares; None for too few of them."""
    if len(points) < 5:
        return None
    times, values = np.array(points).T
    hours = times / 3600
    slope, intercept = np.polyfit(hours, values, 1)
    residuals = values - (slope * hours + intercept)
    spread = float(np.sum((hours - hours.mean()) ** 2))
    error = math.sqrt(float(np.sum(residuals**2)) / (len(points) - 2) / spread)
    return Slope(float(slope), error, float(values[0]), float(values[-1]))


class Load:
    """Constant requests of one sort, each worker with its own; `delays` are (moment, seconds)."""

    def __init__(self, server: KeptServer, models: Path) -> None:
        self._url, self._models = server.url, models
        self.delays: list[tuple[float, float]] = []
        self.failures: list[str] = []
        self.requests = 0
        self._is_over = threading.Event()
        works = [self._v1, self._v1, self._v2, self._predict_job, self._script, self._thread_script, self._update]
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in works]
        self._version = 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, work: Callable[[httpx.Client], float]) -> None:
        with httpx.Client(base_url=self._url, timeout=120) as http:
            while not self._is_over.is_set():
                try:
                    pause = work(http)
                except (httpx.HTTPError, AssertionError) as error:
                    self.failures.append(f"{work.__name__}: {error!r}"[:300])
                    pause = 1.0
                self.requests += 1
                self._is_over.wait(pause)

    def _timed(self, http: httpx.Client, path: str, body: dict[str, Any]) -> None:
        begun_at = time.monotonic()
        assert (response := http.post(path, json=body)).status_code == 200, response.text
        self.delays.append((begun_at, time.monotonic() - begun_at))

    def _v1(self, http: httpx.Client) -> float:
        self._timed(http, "/v1/models/model:predict", {"instances": [[1, 2]] * 8})
        return 0.02

    def _v2(self, http: httpx.Client) -> float:
        tensor = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
        self._timed(http, "/v2/models/model/infer", {"inputs": [tensor]})
        return 0.02

    def _predict_job(self, http: httpx.Client) -> float:
        fields = {"name": "model", "fetches": "y", "feed_dict": {"x": [[1, 2]]}, "timeout": 60}
        self._job(http, "/predict/", fields)
        return 0.1

    def _script(self, http: httpx.Client) -> float:
        self._job(http, "/push_job/", {"name": "scripts", "job": "print('x' * 1000)\nx = 1", "type": 1, "timeout": 60})
        return 0.1

    def _thread_script(self, http: httpx.Client) -> float:
        self._job(http, "/push_job/", {"name": "threads", "job": "y = list(range(1000))", "type": 1, "timeout": 60})
        return 0.1

    def _update(self, http: httpx.Client) -> float:
        """Keeps to a few versions, so that files do not accumulate; bad requests, pages and lists in between."""
        self._version = self._version % 5 + 1
        path = versions.write(self._models, self._version)
        self._job(http, "/update/", {"name": "model", "path": str(path), "timeout": 60})
        for bad in (b"null", b"[" * 1000, b'{"instances": [[1, "a"]]}'):
            http.post("/v1/models/model:predict", content=bad)
        for path_ in ("/", "/jobs/?limit=100", "/metrics", "/server/"):
            http.get(path_, headers={"Accept": "text/html"} if path_ == "/" else {})
        return 5.0

    def _job(self, http: httpx.Client, path: str, fields: dict[str, Any]) -> None:
        assert (response := http.post(path, json=fields)).status_code == 200, response.text
        assert response.json()["result"]["state"] == "succeeded", response.text


def main() -> int:
    minutes = parse().minutes
    print(f"soak: {minutes:g} minutes; the first {WARM_UP_SHARE:.0%} are the warm-up", flush=True)
    with tempfile.TemporaryDirectory(prefix="tfserve-soak-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (models := folder / "models").mkdir()
        environment = {"TFSERVE_ROOTS": str(models), "TFSERVE_CONVERT": "0"}
        server = KeptServer(folder, folder / "data", "--keep-jobs", "1000", environment=environment)
        server.start()
        try:
            prepare(server, models)
            with Load(server, models) as load:
                samples = watch(server, load, minutes * 60)
        finally:
            code = server.stop()
    return show(samples, load, minutes, code)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=os.environ.get("MINUTES") or "30")
    return parser.parse_args()


def prepare(server: KeptServer, models: Path) -> None:
    with httpx.Client(base_url=server.url, timeout=120) as http:
        for name, kind in {"model": 0, "scripts": 0, "threads": 1}.items():
            http.post("/create_workspace/", json={"name": name, "type": kind}).raise_for_status()
        fields = {"name": "model", "path": str(versions.write(models, 1)), "timeout": 120}
        assert http.post("/deploy/", json=fields).json()["result"]["result"] is True


def watch(server: KeptServer, load: Load, seconds: float) -> Samples:
    """Samples of every process at a constant rate, and p99 of each minute."""
    samples: Samples = defaultdict(list)
    begun_at = time.monotonic()
    while (now := time.monotonic() - begun_at) < seconds:
        sample(server.processes(), now, samples)
        time.sleep(SAMPLE_EVERY_S)  # a constant rate of samples is what is measured
    minute_of: dict[int, list[float]] = defaultdict(list)
    for at, delay in list(load.delays):
        minute_of[int((at - begun_at) // 60)].append(delay * 1000)
    samples["predictions", "p99"] = [
        (60.0 * n, float(np.percentile(each, 99))) for n, each in sorted(minute_of.items())
    ]
    return samples


def sample(processes: list[psutil.Process], now: float, samples: Samples) -> None:
    for label, process in labelled(processes).items():
        with contextlib.suppress(psutil.Error):
            samples[label, "memory"].append((now, process.memory_full_info().pss / 2**20))
            samples[label, "fds"].append((now, process.num_fds()))
            samples[label, "threads"].append((now, process.num_threads()))


def labelled(processes: list[psutil.Process]) -> dict[str, psutil.Process]:
    """The processes that last, by what they are. The model's worker changes with each update."""
    found: dict[str, psutil.Process] = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            words = " ".join(process.cmdline())
            programs = {"runserver": "supervisor", "web.app": "web", "guardian.py": "guardian"}
            role = next((role for program, role in programs.items() if program in words), f"worker {process.pid}")
            found[role] = process
    return found


class Requests(Protocol):
    """What the clients of a run have seen."""

    requests: int
    failures: list[str]


def show(samples: Samples, load: Requests, minutes: float, exit_code: int) -> int:
    table = Table(title=f"Soak, {minutes:g} minutes, {load.requests} requests, {len(load.failures)} failures")
    for heading in ("process", "quantity", "first", "last", "slope per hour", "± standard error", "verdict"):
        table.add_column(heading)
    growing = 0
    begin = minutes * 60 * WARM_UP_SHARE
    for (label, quantity), points in samples.items():
        slope, limit = fit([point for point in points if point[0] >= begin]), LIMITS[quantity]
        lasted = points[-1][0] - points[0][0] > minutes * 60 * 0.6
        if slope is None or not lasted:
            continue
        growing += slope.grows(limit)
        numbers = [f"{value:.1f} {limit.unit}" for value in (slope.first, slope.last, slope.per_hour, slope.error)]
        table.add_row(label, quantity, *numbers, slope.verdict(limit))
    Console(width=130).print(table)
    for failure in load.failures[:20]:
        print(f"FAILED {failure}")
    print(f"exit code of the server {exit_code}; {growing} growing")
    return 1 if growing or load.failures or exit_code else 0


if __name__ == "__main__":
    sys.exit(main())
