"""Measures the pages of a server with 500 workspaces and 10,000 jobs: time and size of each.

python -m benchmarks.pages
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
from rich.console import Console

from benchmarks.filled_database import JOBS, WORKSPACES
from benchmarks.server_process import REPOSITORY, ServerProcess
from benchmarks.tables import Row, show

PAGES = {
    "Overview": "/",
    "Workspaces": "/pages/workspaces/",
    "Workspaces, last page": "/pages/workspaces/?offset=480",
    "Workspaces, search": "/pages/workspaces/?q=42",
    "A workspace with 5,010 jobs": "/pages/workspaces/workspace%20000/",
    "Jobs": "/pages/jobs/",
    "Jobs, 250 pages back": "/pages/jobs/?before=41",
    "Jobs, failed": "/pages/jobs/?state=failed",
    "Jobs of a workspace": "/pages/jobs/?workspace=workspace%20123",
    "Jobs, search": "/pages/jobs/?q=broadcast",
    "Jobs, search without a result": "/pages/jobs/?q=nothing%20of%20that%20name",
    "A job": "/pages/jobs/5000/",
    "Settings": "/pages/settings/",
}
REPEATS = 20
GOAL_MS, GOAL_KB = 50.0, 60.0


class Measured:
    """One page of the server with process id `pid`.

    Median response time and processor time of a request in milliseconds, size in kB as it is and compressed. The
    processor time does not depend on what else runs on the machine.
    """

    def __init__(self, http: httpx.Client, pid: int, path: str) -> None:
        self._http, self._path = http, path
        page = self._get("identity")
        begun, times = processor_s(pid), []
        for _ in range(REPEATS):
            sent = time.perf_counter()
            self._get("identity")
            times.append(1000 * (time.perf_counter() - sent))
        self.processor_ms = 1000 * (processor_s(pid) - begun) / REPEATS
        self.median_ms = statistics.median(times)
        self.kb = len(page.content) / 1000
        self.compressed_kb = self._get("gzip").num_bytes_downloaded / 1000

    def _get(self, encoding: str) -> httpx.Response:
        page = self._http.get(self._path, headers={"Accept": "text/html", "Accept-Encoding": encoding})
        return page.raise_for_status()


def processor_s(pid: int) -> float:
    """The processor time of the supervisor with this process id and of its web processes, in seconds."""
    supervisor = psutil.Process(pid)
    web = [each for each in supervisor.children() if "tfserve.web.app" in each.cmdline()]
    times = [each.cpu_times() for each in (supervisor, *web)]
    return sum(each.user + each.system for each in times)


def fill(folder: Path) -> None:
    """Fills the data folder `folder/data`."""
    environment = {**os.environ, "TFSERVE_DATA_DIR": str(folder / "data")}
    subprocess.run([sys.executable, "-m", "benchmarks.filled_database"], cwd=REPOSITORY, env=environment, check=True)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder)
        with ServerProcess(folder) as server:
            rows = [_row(label, Measured(server.http, server.process.pid, path)) for label, path in PAGES.items()]
    console.print(f"{JOBS:,} jobs in {WORKSPACES} workspaces")
    show(console, rows)


def _row(label: str, page: Measured) -> Row:
    times = f"{page.median_ms:.0f} ms (processor {page.processor_ms:.0f} ms)"
    measured = f"{times}, {page.kb:.0f} kB ({page.compressed_kb:.1f} kB compressed)"
    return label, measured, f"≤ {GOAL_MS:g} ms, ≤ {GOAL_KB:g} kB"


if __name__ == "__main__":
    main()
