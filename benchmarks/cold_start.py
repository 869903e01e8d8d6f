"""Measures how soon a model answers: from the call of /deploy/ to the first correct prediction, with a warm spare.

python -m benchmarks.cold_start              MobileNetV2, five times; also when its files were deployed before
python -m benchmarks.cold_start --cost       what the trials of `auto` cost a model that is serving

Wall-clock times mean little on a busy machine, so the processor time of all processes of the server is printed too
(the next spare, which starts when the model has been loaded, is not finished by then).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console

from benchmarks.predictions import models
from benchmarks.requests import Request, Samples
from benchmarks.server_process import REPOSITORY, ServerProcess
from benchmarks.tfserve_participant import TFserve, Variant, deploy, wait_until_chosen

ROW = "mobilenet-raw"
NAME = "mobilenet"
GOAL_S = 1.2
KNOWN_GOAL_S = 0.5
CONNECTIONS = 32
MEASURED_S = 15.0

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="twice")
    parser.add_argument("--cost", action="store_true", help="only what trials cost a model that is serving")
    options = parser.parse_args()
    samples = Samples(models())
    request = TFserve(Variant("tensorflow", "")).ask(ROW, samples)
    assert isinstance(request, Request), request
    with tempfile.TemporaryDirectory(dir=REPOSITORY, prefix=".bench-") as folder, ServerProcess(Path(folder)) as server:
        if options.cost:
            print_cost(server, request)
            return
        times = 2 if options.quick else options.times
        server.wait_for_spare()
        print_memory(server)
        print_times("cold start of MobileNetV2", GOAL_S, [first_answer(server, request, samples) for _ in range(times)])
        deploy(server, NAME, models() / NAME, "auto")
        wait_until_chosen(server, NAME)
        server.call("/destroy_workspace/", name=NAME)
        first_answer(server, request, samples, "auto")  # after it, there is a light spare
        known = [first_answer(server, request, samples, "auto") for _ in range(times)]
        print_times("the same files deployed again, with the runtime that was chosen", KNOWN_GOAL_S, known)
        print_memory(server)


def print_times(title: str, goal_s: float, took: list[tuple[float, float]]) -> None:
    walls, cpus = zip(*took, strict=True)
    each = ", ".join(f"{wall:.2f}" for wall in walls)
    console.print(
        f"{title}: {statistics.median(walls):.2f} s (median of {each}; goal: {goal_s} s),"
        f" processor time {statistics.median(cpus):.2f} s",
        highlight=False,
    )


def print_memory(server: ServerProcess) -> None:
    """The proportional set size of each process."""
    state = server.http.get("/server/").json()["result"]
    spares = {state[name]["pid"]: name for name in ("spare", "light_spare") if state[name]}
    others = 0.0
    for process in server.tree():
        size = process.memory_full_info().pss / 2**20
        if process.pid in spares:
            console.print(f"{spares[process.pid].replace('_', ' ')}: {size:.0f} MiB", highlight=False)
        else:
            others += size
    console.print(f"all other processes: {others:.0f} MiB", highlight=False)


def first_answer(
    server: ServerProcess, request: Request, samples: Samples, runtime: str = "tensorflow"
) -> tuple[float, float]:
    """Seconds, by the clock and of all processors. Raises AssertionError when the answer is not TensorFlow's."""
    server.wait_for_spare()
    server.processes.wait_until_idle()
    cpu_s, begun_at = server.processes.cpu_s(), time.perf_counter()
    deploy(server, NAME, models() / NAME, runtime)
    answer = httpx.post(server.url + request.path, content=request.body, headers=request.headers, timeout=60)
    took_s, cpu_s = time.perf_counter() - begun_at, server.processes.cpu_s() - cpu_s
    got = request.read({name.lower(): value for name, value in answer.headers.items()}, answer.content)
    np.testing.assert_allclose(got, samples.expected(ROW), rtol=1e-3, atol=1e-6)
    server.call("/destroy_workspace/", name=NAME)
    return took_s, cpu_s


# --- the cost of trials


def print_cost(server: ServerProcess, request: Request) -> None:
    """Compares the throughput of a model before and during the trials of the same model."""
    server.wait_for_spare()
    deploy(server, NAME, models() / NAME, "tensorflow")
    url = server.url + request.path
    throughput(url, request)  # warm
    alone = throughput(url, request)
    deploy(server, "trials", models() / NAME, "auto")
    beside = throughput(url, request)
    console.print(
        f"{CONNECTIONS} connections: {alone:.1f} responses per second alone, {beside:.1f} during trials"
        f" ({beside / alone - 1:+.0%}; goal: at most -20 %)",
        highlight=False,
    )


def throughput(url: str, request: Request) -> float:
    """Correct responses per second, of this many connections."""
    until = time.perf_counter() + MEASURED_S

    def ask(_: int) -> int:
        answered = 0
        with httpx.Client(timeout=120) as http:
            while time.perf_counter() < until:
                http.post(url, content=request.body, headers=request.headers).raise_for_status()
                answered += 1
        return answered

    begun_at = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        total = sum(pool.map(ask, range(CONNECTIONS)))
    return total / (time.perf_counter() - begun_at)


if __name__ == "__main__":
    main()
