"""Times calls of a model."""

from __future__ import annotations

import heapq
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from tfserve.errors import TFserveError
from tfserve.runtimes.interface import Runtime
from tfserve.runtimes.synthetic_inputs import ONES, Recipe, is_certain
from tfserve.tensors.specs import DEFAULT_SIGNATURE

ROWS = 8
CALLS, CALLS_S = 12, 0.02
LIGHT_S = 0.001
"""Threads only slow down a model that takes less."""

WARM_CALLS = 3
ROUND_S = 0.001
"""Shorter calls are timed in groups."""
MIN_ROUNDS, ENOUGH_S, TOO_LONG_S = 5, 0.4, 2.0
NEAR = 1.1
"""The shortest time is trusted when another one came this close to it."""

Call = Callable[[], object]


class Latency(NamedTuple):
    """Seconds of one call: median, shortest, and least of all cores together."""

    median_s: float
    best_s: float
    cpu_s: float


def wall_times(call: Call, *, calls: int, limit_s: float) -> list[float]:
    """Seconds of each of at most this many calls, until they have taken `limit_s` together. At least one."""
    times: list[float] = []
    while len(times) < calls and sum(times) < limit_s:
        times.append(_round(call, 1)[0])
    return times


def of_model(runtime: Runtime) -> float | None:
    """The shortest time of a few calls of the default signature; None if no inputs can be generated."""
    signature = runtime.signatures.get(DEFAULT_SIGNATURE)
    if signature is None or not signature.inputs or not is_certain(signature):
        return None
    inputs = Recipe(ONES, ROWS).inputs(signature)
    outputs = [spec.name for spec in signature.outputs]

    def call() -> object:
        return runtime.run(inputs, outputs, DEFAULT_SIGNATURE)

    try:
        call()  # the first call builds what the others use
        return min(wall_times(call, calls=CALLS, limit_s=CALLS_S))
    except TFserveError:
        return None


def measure(call: Call) -> Latency:
    """As exact as two seconds allow."""
    for _ in range(WARM_CALLS):
        call()
    calls = 1 + int(ROUND_S / max(_round(call, 1)[0], 1e-7))
    started_at = time.perf_counter()
    walls: list[float] = []
    cpus: list[float] = []
    while not _is_enough(walls, time.perf_counter() - started_at):
        wall_s, cpu_s = _round(call, calls)
        walls.append(wall_s)
        cpus.append(cpu_s)
    return Latency(statistics.median(walls), min(walls), max(min(cpus), 1e-9))


def _round(call: Call, calls: int) -> tuple[float, float]:
    """Seconds of one call, by the clock and of all cores together."""
    cpu_at, started_at = time.process_time(), time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - started_at) / calls, (time.process_time() - cpu_at) / calls


def _is_enough(walls: list[float], took_s: float) -> bool:
    if len(walls) < MIN_ROUNDS or took_s < ENOUGH_S:
        return False
    shortest = heapq.nsmallest(2, walls)
    return took_s > TOO_LONG_S or shortest[1] <= NEAR * shortest[0]
