"""Many predictions, one image in each request, from several connections at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

import msgspec

TIMEOUT_S = 60.0

Probabilities = list[float]


class PredictionError(Exception):
    """The server answered, but not with a prediction."""


@dataclass
class Load:
    """What one connection has seen: each answer with its image's number, the seconds it took, and the failures."""

    answers: list[tuple[int, Probabilities]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Speed:
    """How many requests were answered in a second, and the milliseconds that half and 99 % of them stayed below."""

    connections: int
    per_second: float
    p50_ms: float
    p99_ms: float


def request_body(fields: dict[str, Any]) -> bytes:
    return msgspec.json.encode({**fields, "timeout": TIMEOUT_S})


def measure(url: str, bodies: list[bytes], *, connections: int, seconds: float) -> Speed:
    """Predict for some seconds. Raises `PredictionError` when a single request fails."""
    begin = time.perf_counter()
    with predicting(url, bodies, connections=connections) as running:
        time.sleep(seconds)
    loads = [each.result() for each in running]
    elapsed = time.perf_counter() - begin
    failures = [failure for load in loads for failure in load.failures]
    if failures:
        raise PredictionError(f"{len(failures)} predictions failed, the first one with: {failures[0]}")
    taken = sorted(second for load in loads for second in load.seconds)
    return Speed(
        connections=connections,
        per_second=len(taken) / elapsed,
        p50_ms=1000 * taken[len(taken) // 2],
        p99_ms=1000 * taken[len(taken) * 99 // 100],
    )


@contextmanager
def predicting(url: str, bodies: list[bytes], *, connections: int, afterwards: int = 0) -> Iterator[list[Future[Load]]]:
    """Predict as fast as the server answers while the block runs, and `afterwards` more times on each connection."""
    stop = threading.Event()
    with ThreadPoolExecutor(connections) as pool:
        try:
            yield [pool.submit(_predict, url, bodies, stop, afterwards) for _ in range(connections)]
        finally:
            stop.set()


def _predict(url: str, bodies: list[bytes], stop: threading.Event, afterwards: int) -> Load:
    load = Load()
    # As bare a client as there is: what is measured should be the server.
    connection = HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_S)
    try:
        for image in cycle(range(len(bodies))):
            if stop.is_set():
                afterwards -= 1
            if afterwards < 0:
                return load
            _predict_one(connection, image, bodies[image], load)
    finally:
        connection.close()
    return load


def _predict_one(connection: HTTPConnection, image: int, body: bytes, load: Load) -> None:
    begin = time.perf_counter()
    try:
        connection.request("POST", "/predict/", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        load.answers.append((image, _probabilities(response.status, response.read())))
        load.seconds.append(time.perf_counter() - begin)
    except (PredictionError, OSError, HTTPException) as error:
        load.failures.append(f"{type(error).__name__}: {error}")
        connection.close()  # the next request opens it again


def _probabilities(status: int, body: bytes) -> Probabilities:
    try:
        job = msgspec.json.decode(body)["result"]
        ((probabilities,),) = job["result"]  # one fetched tensor, one image
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
        raise PredictionError(f"{status} {body[:500].decode(errors='replace')}") from None
    return probabilities
