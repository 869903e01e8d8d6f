"""Without a server: the network is called again and again, by one or several threads, with one or several rows.

Each line of standard input is one measurement, {"row", "way", "callers", "batch", "seconds"}; its result is a line of
JSON. The process keeps the network between them. TF_NUM_INTRAOP_THREADS says how many threads share one call.

The ways are `signature`, as the Python servers call it, and `session`, with less Python around each call.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from served import MODEL
from signature import Network
from tensorflow.core.protobuf import config_pb2

WARM_UP_SHARE = 0.25


def measure(call: Callable[[], Any], *, callers: int, batch: int, seconds: float) -> dict[str, float]:
    """Rows a second, the processor time of a row, and how long a call takes."""
    repeat(call, callers, seconds * WARM_UP_SHARE)
    cpu_s, begun_at = time.process_time(), time.perf_counter()
    times = repeat(call, callers, seconds)
    rows, took_s = len(times) * batch, time.perf_counter() - begun_at
    return {
        "rate": rows / took_s,
        "cpu_us": (time.process_time() - cpu_s) / rows * 1e6,
        "p50_ms": statistics.median(times) * 1000,
        "p99_ms": (statistics.quantiles(times, n=100)[98] if len(times) > 1 else times[0]) * 1000,
    }


def repeat(call: Callable[[], Any], callers: int, seconds: float) -> list[float]:
    """How long each call took, in seconds; at least one call of each thread."""
    times: list[float] = []
    until = time.perf_counter() + seconds

    def caller() -> None:
        while True:
            started_at = time.perf_counter()
            call()
            ended_at = time.perf_counter()
            times.append(ended_at - started_at)
            if ended_at >= until:
                return

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


class SessionNetwork:
    """The same signatures in a session, each call in the thread that makes it."""

    def __init__(self) -> None:
        threads = int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0))
        config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        with self._session.graph.as_default():
            loaded = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], MODEL)
        self._calls = {name: self._call(each) for name, each in loaded.signature_def.items() if each.inputs}

    def _call(self, signature: Any) -> Callable[[Any], Any]:
        options = config_pb2.CallableOptions(
            feed=[each.name for each in signature.inputs.values()],
            fetch=[each.name for each in signature.outputs.values()],
        )
        options.run_options.inter_op_thread_pool = -1
        call: Callable[[Any], Any] = self._session._make_callable_from_options(options)
        return call

    def of_numbers(self, x: Any) -> Any:
        return self._calls["serving_default"](x)

    def of_images(self, images: list[bytes]) -> Any:
        return self._calls["image_bytes"](np.array(images, object))


def call_of(network: Network | SessionNetwork, rows: Any, row: str, batch: int) -> Callable[[], Any]:
    if row == "mobilenet-jpeg":
        images = [rows["jpeg"].tobytes()] * batch
        return lambda: network.of_images(images)
    numbers = np.repeat(rows["small" if row == "small-json" else "image"], batch, axis=0)
    return lambda: network.of_numbers(numbers)


def main() -> None:
    networks = {"signature": Network(), "session": SessionNetwork()}
    with np.load(Path(MODEL).parent / "rows.npz") as made:
        rows = dict(made)
    for line in sys.stdin:
        order = json.loads(line)
        call = call_of(networks[order["way"]], rows, order["row"], order["batch"])
        result = measure(call, callers=order["callers"], batch=order["batch"], seconds=order["seconds"])
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
