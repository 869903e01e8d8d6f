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
    """One page: fastest, median and slowest response in milliseconds, size in kB as it is and compressed."""

    def __init__(self, http: httpx.Client, path: str, repeats: int = REPEATS) -> None:
        times = []
        for _ in range(repeats + 1):
            begun = time.perf_counter()
            page = http.get(path, headers={"Accept": "text/html", "Accept-Encoding": "identity"})
            times.append(1000 * (time.perf_counter() - begun))
            page.raise_for_status()
        self.kb = len(page.content) / 1000
        compressed = http.get(path, headers={"Accept": "text/html", "Accept-Encoding": "gzip"})
        self.compressed_kb = int(compressed.headers.get("Content-Length", compressed.num_bytes_downloaded)) / 1000
        warm = times[1:]
        self.fastest_ms, self.median_ms, self.slowest_ms = min(warm), statistics.median(warm), max(warm)


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
            rows = [_row(label, Measured(server.http, path)) for label, path in PAGES.items()]
    console.print(f"{JOBS:,} jobs in {WORKSPACES} workspaces")
    show(console, rows)


def _row(label: str, page: Measured) -> Row:
    measured = (
        f"{page.median_ms:.0f} ms (slowest {page.slowest_ms:.0f} ms), {page.kb:.0f} kB ({page.compressed_kb:.1f} kB)"
    )
    return label, measured, f"≤ {GOAL_MS:g} ms, ≤ {GOAL_KB:g} kB"


if __name__ == "__main__":
    main()
