"""Checks every answer under load against its own request: each has one to four rows of its own, over every protocol.

python -m benchmarks.rows_never_mixed                          64 connections for each protocol, 20 s
python -m benchmarks.rows_never_mixed --responses 250000       as long as that takes, an equal part over each protocol
python -m benchmarks.rows_never_mixed --runtime auto
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console

from benchmarks import grpc_load, http_load
from benchmarks.http_load import Result
from benchmarks.participants import free_port
from benchmarks.predictions import models
from benchmarks.requests import (
    Checked,
    CheckedCall,
    CheckedV1Call,
    Request,
    of_instances,
    v1_grpc,
    v2_binary,
    v2_grpc,
    v2_numbers,
)
from benchmarks.server_process import REPOSITORY, ServerProcess
from benchmarks.tfserve_participant import deploy, wait_until_chosen

NAME = "small"
DIFFERENT = 4096  # inputs, so that a row that belongs to another request is seen

console = Console()

Each = TypeVar("Each")


def v1_json(x: Any) -> Request:
    return of_instances(f"/v1/models/{NAME}:predict", x.tolist())


def v2_json(x: Any) -> Request:
    return v2_numbers(f"/v2/models/{NAME}/infer", x)


def v2_bytes(x: Any) -> Request:
    return v2_binary(f"/v2/models/{NAME}/infer", x)


PROTOCOLS: dict[str, Callable[[Any], Request]] = {"v1 JSON": v1_json, "v2 JSON": v2_json, "v2 binary": v2_bytes}
CALLS: dict[str, tuple[type[CheckedCall], Callable[[str, Any], bytes]]] = {
    "v1 gRPC": (CheckedV1Call, v1_grpc),
    "v2 gRPC": (CheckedCall, v2_grpc),
}
LONGEST_S = 1200
"""With `--responses`: a server that hangs must not hang the benchmark."""


def main() -> int:
    options = parse()
    path = models() / NAME
    inputs = different_inputs()
    expected = expected_of(path, inputs)
    grpc_port = free_port()
    with (
        tempfile.TemporaryDirectory(dir=REPOSITORY, prefix=".bench-") as folder,
        ServerProcess(Path(folder), "--grpc-port", str(grpc_port)) as server,
    ):
        deploy(server, NAME, path, options.runtime)
        if options.runtime == "auto":
            wait_until_chosen(server, NAME)
        addresses = {**dict.fromkeys(PROTOCOLS, server.url), **dict.fromkeys(CALLS, f"127.0.0.1:{grpc_port}")}
        results = all_at_once(addresses, inputs, expected, options)
    return report(results, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--responses", type=int, default=0, help="how many over all protocols, in place of --seconds")
    parser.add_argument("--quick", action="store_true", help="5 seconds")
    parser.add_argument("--runtime", default="tensorflow")
    options = parser.parse_args()
    options.seconds = 5 if options.quick else LONGEST_S if options.responses else options.seconds
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


def all_at_once(addresses: dict[str, str], inputs: list[Any], expected: list[Any], options: Any) -> dict[str, Result]:
    """The clients of each protocol in a process of their own: in threads one would wait for the other's turn."""
    with ProcessPoolExecutor(len(addresses), mp_context=get_context("spawn")) as pool:
        loads = {
            name: pool.submit(load, name, address, inputs, expected, options) for name, address in addresses.items()
        }
        return {name: each.result() for name, each in loads.items()}


def load(name: str, address: str, inputs: list[Any], expected: list[Any], options: Any) -> Result:
    pairs = list(zip(inputs, expected, strict=True))
    count = -(-options.responses // (len(PROTOCOLS) + len(CALLS)))
    if name in CALLS:
        check, serialize = CALLS[name]
        calls = [check(serialize(NAME, x), answer) for x, answer in pairs]
        return grpc_load.exchange(address, cycle(calls, options.seconds, count), at_a_time=options.connections)
    write = PROTOCOLS[name]
    rows = [Checked(write(x), answer) for x, answer in pairs]
    return http_load.exchange(address, cycle(rows, options.seconds, count), connections=options.connections)


def cycle(rows: Sequence[Each], seconds: float, count: int = 0) -> Iterator[Each]:
    """Until the seconds have passed or, unless it is 0, the count is reached."""
    number, until = 0, time.monotonic() + seconds
    while time.monotonic() < until and (not count or number < count):
        yield rows[number % len(rows)]
        number += 1


def report(results: dict[str, Result], options: argparse.Namespace) -> int:
    """The exit code: 0 when every response was that of its own request, and there were enough."""
    for name, result in results.items():
        console.print(f"{name}: {len(result.times)} responses, {len(result.failures)} wrong or failed", highlight=False)
        for failure in list(dict.fromkeys(result.failures))[:5]:
            console.print(f"  {failure}", highlight=False, markup=False)
    count = sum(len(result.times) for result in results.values())
    wrong = sum(len(result.failures) for result in results.values())
    console.print(f"all: {count} responses, {wrong} wrong or failed", highlight=False)
    is_good = all(result.times for result in results.values()) and not wrong and count >= options.responses
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
