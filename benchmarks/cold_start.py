"""Measures how soon a model answers: from the call of /deploy/ to the first correct prediction, with a warm spare.

python -m benchmarks.cold_start              MobileNetV2, five times
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console

from benchmarks.predictions import models
from benchmarks.requests import Request, Samples
from benchmarks.server_process import REPOSITORY, ServerProcess
from benchmarks.tfserve_participant import TFserve, Variant, deploy

ROW = "mobilenet-raw"
NAME = "mobilenet"
GOAL_S = 1.2

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="twice")
    options = parser.parse_args()
    samples = Samples(models())
    request = TFserve(Variant("tensorflow", "")).ask(ROW, samples)
    assert isinstance(request, Request), request
    took_s = []
    with tempfile.TemporaryDirectory(dir=REPOSITORY, prefix=".bench-") as folder, ServerProcess(Path(folder)) as server:
        for _ in range(2 if options.quick else options.times):
            server.wait_for_spare()
            server.processes.wait_until_idle()
            took_s.append(first_answer(server, request, samples))
            server.call("/destroy_workspace/", name=NAME)
    told = ", ".join(f"{each:.2f}" for each in took_s)
    median_s = statistics.median(took_s)
    console.print(f"cold start of MobileNetV2: {median_s:.2f} s (median of {told}; goal: {GOAL_S} s)", highlight=False)


def first_answer(server: ServerProcess, request: Request, samples: Samples) -> float:
    """Seconds. Raises AssertionError when the answer is not TensorFlow's."""
    begun_at = time.perf_counter()
    deploy(server, NAME, models() / NAME, "tensorflow")
    answer = httpx.post(server.url + request.path, content=request.body, headers=request.headers, timeout=60)
    took_s = time.perf_counter() - begun_at
    got = request.read({name.lower(): value for name, value in answer.headers.items()}, answer.content)
    np.testing.assert_allclose(got, samples.expected(ROW), rtol=1e-3, atol=1e-6)
    return took_s


if __name__ == "__main__":
    main()
