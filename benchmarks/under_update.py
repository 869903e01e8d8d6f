"""Predicts over 100 connections while the model is updated 50 times: failed requests, and what the slowest pay.

python -m benchmarks.under_update                       the small network, through /v1
python -m benchmarks.under_update --verb deploy         by a new deployment instead of an update
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.http_load import Result, exchange
from benchmarks.predictions import models
from benchmarks.requests import Checked, Request, Samples, model_of
from benchmarks.server_process import REPOSITORY, ServerProcess
from benchmarks.tfserve_participant import TFserve, Variant, deploy

console = Console()


def main() -> int:
    options = parse()
    samples = Samples(models())
    name = model_of(options.row)
    path = models() / name
    request = TFserve(Variant(options.runtime, "")).ask(options.row, samples)
    assert isinstance(request, Request), request
    prediction = Checked(request, samples.expected(options.row))
    with tempfile.TemporaryDirectory(dir=REPOSITORY, prefix=".bench-") as folder, ServerProcess(Path(folder)) as server:
        deploy(server, name, path, options.runtime)
        server.wait_for_spare()
        quiet = during(server, prediction, options.connections, lambda: time.sleep(options.seconds))
        updated = during(server, prediction, options.connections, lambda: update(server, name, path, options))
    return tell(quiet, updated, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verb", choices=("update", "deploy"), default="update")
    parser.add_argument("--updates", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="5 updates, 5 seconds without")
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20, help="how long it is measured without updates (20)")
    parser.add_argument("--row", default="small-json", help="which request of benchmarks.predictions (small-json)")
    parser.add_argument("--runtime", default="tensorflow")
    options = parser.parse_args()
    if options.quick:
        options.updates, options.seconds = 5, 5
    return options


def during(server: ServerProcess, prediction: Checked, connections: int, what: Callable[[], None]) -> Result:
    """Keeps the connections busy as long as `what` takes."""
    ended, results = threading.Event(), []

    def until_ended() -> Iterator[Checked]:
        while not ended.is_set():
            yield prediction

    client = threading.Thread(
        target=lambda: results.append(exchange(server.url, until_ended(), connections=connections))
    )
    client.start()
    try:
        what()
    finally:
        ended.set()
        client.join()
    return results[0]


def update(server: ServerProcess, name: str, path: Path, options: argparse.Namespace) -> None:
    """One right after the other: also while the next warm spare is only being made."""
    fields = {"runtime": options.runtime} if options.verb == "deploy" else {}
    for _ in range(options.updates):
        job: Any = server.call(f"/{options.verb}/", name=name, path=str(path), timeout=120, **fields)
        if job["result"] is not True:
            raise RuntimeError(job)


def tell(quiet: Result, updated: Result, options: argparse.Namespace) -> int:
    """The exit code: 0 when no request failed."""
    console.print(f"{options.connections} connections, {options.row}, runtime {options.runtime}", highlight=False)
    for what, result in (("without", quiet), (f"during {options.updates} × {options.verb}", updated)):
        failed = f"{len(result.failures)} of {len(result.times)} failed"
        speed = f"{result.rate:.0f}/s, p50 {result.p50_ms:.1f} ms, p99 {result.p99_ms:.1f} ms"
        console.print(f"{what}: {failed}, {speed}, in {result.took_s:.0f} s", highlight=False)
    console.print(f"p99: {updated.p99_ms / quiet.p99_ms:.1f} times (goal: 3 at most; 0 failed)", highlight=False)
    for failure in dict.fromkeys([*quiet.failures, *updated.failures]):
        console.print(f"  {failure}", highlight=False, markup=False)
    return 1 if quiet.failures or updated.failures else 0


if __name__ == "__main__":
    sys.exit(main())
