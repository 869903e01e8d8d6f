"""OpenVINO's own `benchmark_app`, the ceiling of any server that computes with OpenVINO: no protocol, no copies.

It comes with the package `openvino`. Its queue is Python, but each request runs in OpenVINO's C++ streams.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.load_point import Point
from benchmarks.peers.environments import Unavailable
from benchmarks.requests import Samples

PROGRAM = Path(sys.executable).with_name("benchmark_app")
SHAPES = {"small": "4", "mobilenet": "224,224,3"}
BATCHES = {"small": (1, 32), "mobilenet": (1, 8)}
REPORT = "benchmark_report.json"
START_S = 120


class BenchmarkApp:
    """At 1 connection one synchronous request at a time, at more the best of OpenVINO's throughput mode."""

    name, title = "benchmark-app", "OpenVINO's benchmark_app"

    def ask(self, row: str, _samples: Samples) -> str | None:
        return None if row in ("small-json", "mobilenet-raw") else "computes tensors only: see raw float32"

    def versions(self) -> str:
        return f"openvino {version('openvino')}"

    def remarks(self) -> list[str]:
        return []

    @contextmanager
    def open(self, _row: str, model: str, path: Path, folder: Path) -> Iterator[AppRuns]:
        if not PROGRAM.exists():
            raise Unavailable(f"{PROGRAM.name} is missing: pip install openvino")
        yield AppRuns(model, path, folder)


class AppRuns:
    memory_bytes: int | None = None

    def __init__(self, model: str, path: Path, folder: Path) -> None:
        self._model = model
        self._path = path
        self._folder = folder

    def measure(self, connections: int, seconds: float) -> Point:
        if connections == 1:
            return self._run(1, seconds, "-hint", "latency", "-api", "sync")
        runs = [self._run(batch, seconds / 2, "-hint", "throughput", "-api", "async") for batch in BATCHES[self._model]]
        return max(runs, key=lambda point: point.rate)

    def _run(self, batch: int, seconds: float, *options: str) -> Point:
        shape = f"[{batch},{SHAPES[self._model]}]"
        command = [str(PROGRAM), "-m", str(self._path), "-shape", shape, "-t", str(max(1, round(seconds)))]
        # The runtime `auto` chooses OpenVINO in float32, too. Only then are its outputs those of TensorFlow.
        command += ["-infer_precision", "f32", "-json_stats", "-report_type", "no_counters", *options]
        command += ["-report_folder", str(self._folder)]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=START_S + seconds)
        if done.returncode:
            raise Unavailable(f"benchmark_app ended with {done.returncode}: {done.stdout.strip()[-200:]}")
        return read(json.loads((self._folder / REPORT).read_text()))


def read(report: dict[str, Any]) -> Point:
    """Rows a second, and the median of milliseconds for one request; benchmark_app reports no p99 next to it."""
    results = report["execution_results"]
    return Point(float(results["throughput"]), float(results["latency (ms)"]), None)
