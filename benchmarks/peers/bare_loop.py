"""No server at all: the signature called again and again in one process, for BENCH_SECONDS a row. Prints JSON."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from served import MODEL, NAME
from signature import Network

SECONDS = float(os.environ["BENCH_SECONDS"])


def measure(call: Callable[[], Any]) -> dict[str, float]:
    during(SECONDS / 4, call)
    times = during(SECONDS, call)
    return {
        "rate": len(times) / sum(times),
        "p50_ms": statistics.median(times) * 1000,
        "p99_ms": statistics.quantiles(times, n=100)[98] * 1000,
    }


def during(seconds: float, call: Callable[[], Any]) -> list[float]:
    times, until = [], time.perf_counter() + seconds
    while (started_at := time.perf_counter()) < until:
        call()
        times.append(time.perf_counter() - started_at)
    return times


def main() -> None:
    network = Network()
    rows = np.load(Path(MODEL).parent / "rows.npz")
    inputs = {name: rows[name] for name in ("small", "image")}
    jpeg = rows["jpeg"].tobytes()
    calls: dict[str, Callable[[], Any]] = {"small-json": lambda: network.of_numbers(inputs["small"])}
    if NAME == "mobilenet":
        calls = {
            "mobilenet-raw": lambda: network.of_numbers(inputs["image"]),
            "mobilenet-jpeg": lambda: network.of_images([jpeg]),
        }
    print(json.dumps({row: measure(call) for row, call in calls.items()}))


if __name__ == "__main__":
    main()
