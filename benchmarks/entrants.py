"""Everything that the comparison measures, with one interface: servers under wrk, and calls without a server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np

from benchmarks.bare_calls import BareLoop
from benchmarks.benchmark_app import BenchmarkApp
from benchmarks.load_point import Point, measure
from benchmarks.nginx import Nginx
from benchmarks.participants import Participant, PeerParticipant, Running
from benchmarks.peers.environments import Unavailable
from benchmarks.peers.table import PEERS
from benchmarks.requests import Request, Samples
from benchmarks.server_process import CACHE
from benchmarks.tfserve_participant import VARIANTS, TFserve

READY_S = 20
RESTLESS = "stopped (SIGSTOP) while the others are measured: it takes much of a core even while idle"
LIMITS = ("bare-loop", "nginx", "benchmark-app")
NAMES = [*LIMITS, *VARIANTS, *PEERS]


class Opened(Protocol):
    memory_bytes: int | None

    def measure(self, connections: int, seconds: float) -> Point: ...


class Entrant(Protocol):
    title: str

    def ask(self, row: str, samples: Samples, /) -> object:
        """A text says why the row is left out."""
        ...

    def versions(self) -> str: ...

    def remarks(self) -> list[str]:
        """What a reader of its numbers should know, after a row."""
        ...

    def open(self, row: str, model: str, path: Path, folder: Path, /) -> AbstractContextManager[Opened]:
        """Ready to be measured; raises Unavailable."""
        ...


def entrant(name: str, samples: Samples) -> Entrant:
    if name == BareLoop.name:
        return BareLoop()
    if name == BenchmarkApp.name:
        return BenchmarkApp()
    if name == Nginx.name:
        return Server(Nginx(), samples)
    return Server(TFserve(VARIANTS[name]) if name in VARIANTS else PeerParticipant(name, PEERS[name], CACHE), samples)


class Server:
    """A server, which is opened only if its response to the row's request is right."""

    def __init__(self, participant: Participant, samples: Samples) -> None:
        self.title = participant.title
        self._participant = participant
        self._samples = samples
        self._notes: list[str] = []

    def ask(self, row: str, samples: Samples) -> Request | str:
        return self._participant.ask(row, samples)

    def versions(self) -> str:
        return self._participant.versions()

    def remarks(self) -> list[str]:
        return [*self._notes, *getattr(self._participant, "notes", [])]

    @contextmanager
    def open(self, row: str, model: str, path: Path, folder: Path) -> Iterator[Opened]:
        request = self._participant.ask(row, self._samples)
        assert isinstance(request, Request), request
        with self._participant.serve(model, path, folder) as running:
            check(running, request, self._samples.expected(row))
            running.settle()
            if running.is_restless:
                self._notes = [RESTLESS]
            yield ServerRuns(running, request, folder)


class ServerRuns:
    def __init__(self, running: Running, request: Request, folder: Path) -> None:
        self._running = running
        self._request = request
        self._folder = folder
        self.memory_bytes: int | None = running.tree.memory_bytes()
        self._rest()

    def measure(self, connections: int, seconds: float) -> Point:
        self._running.tree.go_on()
        try:
            return measure(self._running, self._request, self._folder, connections=connections, seconds=seconds)
        finally:
            self._rest()

    def _rest(self) -> None:
        """Takes nothing from the others. One that waits idle needs no help, and some would miss their heartbeats."""
        if self._running.is_restless:
            self._running.tree.pause()


def check(running: Running, request: Request, expected: Any) -> None:
    """Raises Unavailable if the server's response is not that of TensorFlow."""
    try:
        response = first_response(running.url, request)
        got = request.read({name.lower(): value for name, value in response.headers.items()}, response.content)
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-6)
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"failed: {type(error).__name__} {error}"[:300]) from error
    except AssertionError as error:
        raise Unavailable(f"wrong response: {' '.join(str(error).split())}"[:300]) from error


def first_response(url: str, request: Request) -> httpx.Response:
    """The first 200; a server may listen before its model is loaded."""
    deadline = time.monotonic() + READY_S
    while True:
        response = httpx.post(url + request.path, content=request.body, headers=request.headers, timeout=60)
        if response.status_code == 200:
            return response
        if time.monotonic() > deadline or response.status_code not in (404, 503):
            raise Unavailable(f"{response.status_code}: {response.text[:200]}")
        time.sleep(0.5)
