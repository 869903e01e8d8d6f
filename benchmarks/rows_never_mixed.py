"""Checks every answer under load against its own request: each has one to four rows of its own, over every protocol.

python -m benchmarks.rows_never_mixed                          64 connections for each protocol, 20 s
python -m benchmarks.rows_never_mixed --runtime auto
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

import numpy as np
from rich.console import Console

from benchmarks.http_load import Result, exchange
from benchmarks.predictions import models
from benchmarks.requests import Checked, Request, of_instances, v2_binary, v2_numbers
from benchmarks.server_process import REPOSITORY, ServerProcess
from benchmarks.tfserve_participant import deploy

NAME = "small"
DIFFERENT = 4096  # inputs, so that a row that belongs to another request is seen

console = Console()


def v1_json(x: Any) -> Request:
    return of_instances(f"/v1/models/{NAME}:predict", x.tolist())


def v2_json(x: Any) -> Request:
    return v2_numbers(f"/v2/models/{NAME}/infer", x)


def v2_bytes(x: Any) -> Request:
    return v2_binary(f"/v2/models/{NAME}/infer", x)


PROTOCOLS: dict[str, Callable[[Any], Request]] = {"v1 JSON": v1_json, "v2 JSON": v2_json, "v2 binary": v2_bytes}


def main() -> int:
    options = parse()
    path = models() / NAME
    inputs = different_inputs()
    expected = expected_of(path, inputs)
    with tempfile.TemporaryDirectory(dir=REPOSITORY, prefix=".bench-") as folder, ServerProcess(Path(folder)) as server:
        deploy(server, NAME, path, options.runtime)
        results = all_at_once(server, {name: requests(name, inputs, expected) for name in PROTOCOLS}, options)
    return tell(results)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--quick", action="store_true", help="5 seconds")
    parser.add_argument("--runtime", default="tensorflow")
    options = parser.parse_args()
    options.seconds = 5 if options.quick else options.seconds
    return options


def different_inputs() -> list[Any]:
    """Far apart: rows whose answers are alike would hide a mix-up."""
    random = np.random.default_rng(1)
    return [random.normal(0, 3, (1 + n % 4, 4)).astype(np.float32) for n in range(DIFFERENT)]


def expected_of(path: Path, inputs: list[Any]) -> list[Any]:
    import tensorflow as tf  # here only: the load comes from a process that should be light

    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    answers = signature(x=tf.constant(np.concatenate(inputs)))["probabilities"].numpy()
    return np.split(answers, np.cumsum([len(x) for x in inputs])[:-1])


def requests(name: str, inputs: list[Any], expected: list[Any]) -> list[Checked]:
    return [Checked(PROTOCOLS[name](x), answer) for x, answer in zip(inputs, expected, strict=True)]


def all_at_once(
    server: ServerProcess, by_protocol: dict[str, list[Checked]], options: argparse.Namespace
) -> dict[str, Result]:
    results: dict[str, Result] = {}
    until = time.monotonic() + options.seconds

    def load(name: str, rows: list[Checked]) -> None:
        results[name] = exchange(server.url, cycle(rows, until), connections=options.connections)

    clients = [threading.Thread(target=load, args=item) for item in by_protocol.items()]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return results


def cycle(rows: list[Checked], until: float) -> Iterator[Checked]:
    number = 0
    while time.monotonic() < until:
        yield rows[number % len(rows)]
        number += 1


def tell(results: dict[str, Result]) -> int:
    """The exit code: 0 when every answer was that of its own request."""
    for name, result in results.items():
        console.print(f"{name}: {len(result.times)} answers, {len(result.failures)} wrong or failed", highlight=False)
        for failure in list(dict.fromkeys(result.failures))[:5]:
            console.print(f"  {failure}", highlight=False, markup=False)
    return 0 if all(result.times and not result.failures for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
