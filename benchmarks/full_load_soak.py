"""Full load for minutes, and whether memory, file descriptors and threads of every process stay flat.

python -m benchmarks.full_load_soak --minutes 10                    small network and MobileNetV2: JSON, bytes and JPEG
python -m benchmarks.full_load_soak --runtime auto --csv FILE       every sample as well

`make soak` is the other half: a moderate load of everything that the server does, with updates of the model.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

from benchmarks import wrk
from benchmarks.predictions import models
from benchmarks.requests import ROWS, Request, Samples, model_of
from benchmarks.server_process import ServerProcess
from benchmarks.tables import wide_console
from benchmarks.tfserve_participant import IMAGES, TFserve, Variant, deploy, wait_until_chosen
from faults import soak

CONNECTIONS = {"small-json": 24, "mobilenet-json": 2, "mobilenet-raw": 4, "mobilenet-jpeg": 4}
SLICE_S = 20.0
"""Seconds between two reports of p99 by a client."""
SAMPLES_AT_LEAST = 40

console = wide_console()


def main() -> int:
    options = parse()
    samples = Samples(models())
    participant = TFserve(Variant(options.runtime, ""))
    requests = {row: participant.ask(row, samples) for row in options.rows}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        with ServerProcess(Path(name)) as server:
            for model in dict.fromkeys(map(model_of, options.rows)):
                deploy(server, model, models() / model, options.runtime, image=IMAGES.get(model))
                if options.runtime == "auto":
                    wait_until_chosen(server, model)
            server.wait_for_spare()
            clients = Clients(server.url, requests, Path(name), options.minutes * 60)
            found = watch(server, clients, options.minutes * 60)
        exit_code = server.process.returncode
    if options.csv:
        write_csv(found, options.csv)
    for row, rates in clients.rates.items():
        console.print(f"{ROWS[row]}, {CONNECTIONS[row]} connections: {sum(rates) / len(rates):.0f}/s", highlight=False)
    return soak.show(found, clients, options.minutes, exit_code)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--runtime", default="tensorflow")
    parser.add_argument("--rows", nargs="+", choices=list(CONNECTIONS), default=list(CONNECTIONS))
    parser.add_argument("--csv", type=Path, metavar="FILE")
    return parser.parse_args()


class Clients:
    """A wrk for each row, in slices; `delays` are p99 of each slice in milliseconds, by row."""

    def __init__(self, url: str, requests: dict[str, Request | str], folder: Path, seconds: float) -> None:
        self.requests = 0
        self.failures: list[str] = []
        self.rates: dict[str, list[float]] = {row: [] for row in requests}
        self.delays: dict[str, list[tuple[float, float]]] = {row: [] for row in requests}
        self._url, self._folder = url, folder
        self._begun_at = time.monotonic()
        self._seconds = seconds
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=each) for each in requests.items()]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self, row: str, request: Request) -> None:
        folder = self._folder / row
        folder.mkdir()
        while (now := time.monotonic() - self._begun_at) < self._seconds:
            seconds = min(SLICE_S, self._seconds - now)
            seen = wrk.run(self._url, request, folder, connections=CONNECTIONS[row], seconds=seconds)
            with self._lock:
                self.requests += seen.requests
                if seen.failed:
                    self.failures.append(f"{row}: {seen.failed} of {seen.requests}")
                self.rates[row].append(seen.rate)
                self.delays[row].append((now, seen.p99_ms))


def watch(server: ServerProcess, clients: Clients, seconds: float) -> soak.Samples:
    found: soak.Samples = defaultdict(list)
    every_s = min(soak.SAMPLE_EVERY_S, seconds / SAMPLES_AT_LEAST)
    begun_at = time.monotonic()
    while (now := time.monotonic() - begun_at) < seconds:
        soak.sample(server.tree(), now, found)
        time.sleep(every_s)  # a constant rate of samples is what is measured
    clients.join()
    for row, delays in clients.delays.items():
        found[row, "p99"] = delays
    return found


def write_csv(found: soak.Samples, file: Path) -> None:
    with file.open("w", newline="") as output:
        writer = csv.writer(output)
        writer.writerow(["second", "process", "quantity", "value"])
        for (process, quantity), points in found.items():
            writer.writerows((round(second, 1), process, quantity, value) for second, value in points)


if __name__ == "__main__":
    sys.exit(main())
