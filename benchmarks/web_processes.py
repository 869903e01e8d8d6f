"""How evenly several web processes share connections and requests, and what the second one is worth.

python -m benchmarks.web_processes                     small network, 1 and 2 web processes in turns, 32 connections
python -m benchmarks.web_processes --processes 1 2 4 --connections 100

Requests are counted by each web process's share of the processor time, connections by the kernel's list of sockets.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.table import Table

from benchmarks import wrk
from benchmarks.predictions import models
from benchmarks.process_tree import role
from benchmarks.requests import ROWS, Request, Samples, model_of
from benchmarks.server_process import ServerProcess
from benchmarks.tables import wide_console
from benchmarks.tfserve_participant import IMAGES, TFserve, Variant, deploy, wait_until_chosen

console = wide_console()


@dataclass
class Seen:
    """Of each web process: its connections half way through, and its processor time in seconds."""

    rate: float
    p99_ms: float
    failed: int
    connections: list[int]
    cpu_s: list[float]


def main() -> None:
    options = parse()
    if (reason := wrk.missing()) is not None:
        sys.exit(reason)
    samples = Samples(models())
    request = TFserve(Variant(options.runtime, "")).ask(options.row, samples)
    assert isinstance(request, Request), request
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        servers = {count: stack.enter_context(serve(count, Path(name), options)) for count in options.processes}
        seen: dict[int, list[Seen]] = {count: [] for count in servers}
        for _ in range(options.times):
            for count, server in servers.items():
                seen[count].append(measure(server, request, Path(name), options))
    show(seen, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--row", choices=list(ROWS), default="small-json")
    parser.add_argument("--runtime", default="tensorflow")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--times", type=int, default=5)
    return parser.parse_args()


@contextlib.contextmanager
def serve(count: int, folder: Path, options: argparse.Namespace) -> Iterator[ServerProcess]:
    place, model = folder / str(count), model_of(options.row)
    place.mkdir()
    with ServerProcess(place, TFSERVE_WEB_PROCESSES=str(count)) as server:
        deploy(server, model, models() / model, options.runtime, image=IMAGES.get(model))
        if options.runtime == "auto":
            wait_until_chosen(server, model)
        server.wait_for_spare()
        yield server


def measure(server: ServerProcess, request: Request, folder: Path, options: argparse.Namespace) -> Seen:
    """The connections are new in each measurement: how they are distributed is chance, so measure several times."""
    wrk.run(server.url, request, folder, connections=options.connections, seconds=options.seconds / 4)
    server.processes.wait_until_idle()
    processes = [process for process in server.tree() if role(process.cmdline()) == "web"]
    before, found = [cpu_s(process) for process in processes], []
    look = threading.Timer(options.seconds / 2, lambda: found.extend(connections(server, processes)))
    look.start()
    seen = wrk.run(server.url, request, folder, connections=options.connections, seconds=options.seconds)
    look.join()
    used = [cpu_s(process) - earlier for process, earlier in zip(processes, before, strict=True)]
    return Seen(seen.rate, seen.p99_ms, seen.failed, found, used)


def cpu_s(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


def connections(server: ServerProcess, processes: list[psutil.Process]) -> list[int]:
    port = int(server.url.rpartition(":")[2])
    return [
        sum(
            each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port
            for each in process.net_connections("tcp")
        )
        for process in processes
    ]


def show(seen: dict[int, list[Seen]], options: argparse.Namespace) -> None:
    table = Table(
        "web processes", "requests/s", "p99 ms", "connections of each", "share of the busiest", "failed",
        title=f"{ROWS[options.row]}, {options.connections} connections, median of {options.times}",
    )  # fmt: skip
    for count, each in seen.items():
        table.add_row(
            str(count),
            f"{statistics.median(one.rate for one in each):.0f}",
            f"{statistics.median(one.p99_ms for one in each):.2f}",
            "; ".join(" + ".join(map(str, sorted(one.connections))) for one in each),
            f"{statistics.median(busiest(one) for one in each):.0%} (even: {1 / count:.0%})",
            str(sum(one.failed for one in each)),
        )
    console.print(table, highlight=False)


def busiest(seen: Seen) -> float:
    return max(seen.cpu_s) / (sum(seen.cpu_s) or 1.0)


if __name__ == "__main__":
    main()
