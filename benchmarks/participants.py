"""What the comparison asks of everything that it measures: serve one of the models, and say how a row is asked."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from benchmarks.peers.environments import Unavailable, python_of, versions
from benchmarks.peers.table import Peer
from benchmarks.process_tree import ProcessTree
from benchmarks.requests import Request, Samples

SERVERS = Path(__file__).parent / "peers"
START_S = 180
# No peer needs to tell its makers of a benchmark.
SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1"}


@dataclass
class Running:
    """`is_restless`: it takes much of a core even while idle."""

    url: str
    tree: ProcessTree
    is_restless: bool = False

    def settle(self) -> None:
        """Returns when all that was asked is answered, as far as that can be seen."""
        if not self.is_restless:
            self.is_restless = not self.tree.wait_until_idle()


class Participant(Protocol):
    title: str

    def ask(self, row: str, samples: Samples) -> Request | str:
        """The row's request, or why there is none."""
        ...

    def serve(self, model: str, path: Path, folder: Path) -> AbstractContextManager[Running]:
        """A running server of that model alone; raises Unavailable."""
        ...

    def versions(self) -> str: ...


class PeerParticipant:
    """One of the table's servers, in an environment of its own."""

    def __init__(self, name: str, peer: Peer, cache: Path) -> None:
        self.title = peer.title
        self._name = name
        self._peer = peer
        self._cache = cache

    def ask(self, row: str, samples: Samples) -> Request | str:
        return self._peer.ask(row, samples)

    def versions(self) -> str:
        return versions(python_of(self._name, self._peer, self._cache), self._peer)

    @contextmanager
    def serve(self, model: str, path: Path, folder: Path) -> Iterator[Running]:
        python = python_of(self._name, self._peer, self._cache)
        port, log = free_port(), folder / f"{self._name}-{model}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [python, SERVERS / self._peer.server],
                cwd=folder,
                env=environment(python, model, path, port),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        tree = ProcessTree(process.pid)
        try:
            wait_for_answers(process, port, log)
            yield Running(f"http://127.0.0.1:{port}", tree)
        finally:
            tree.go_on()
            tree.stop()


def environment(python: Path, model: str, path: Path, port: int) -> dict[str, str]:
    """The user's, less what would lead the peer's Python elsewhere; and what `peers/signature.py` reads."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    kept["PATH"] = f"{python.parent}{os.pathsep}{kept['PATH']}"
    return {**kept, **SILENT, "BENCH_MODEL": str(path), "BENCH_NAME": model, "BENCH_PORT": str(port)}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until the server answers at all, with whatever status; whether it answers well is seen at each row's check."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Unavailable(f"ended with {process.returncode} at its start: {last_line(log)}")
        try:
            httpx.get(f"http://127.0.0.1:{port}/", timeout=5)
        except httpx.HTTPError:
            time.sleep(0.2)  # none of the peers tells when it listens in a way that the others know too
        else:
            return
    raise Unavailable(f"no answer {START_S} s after its start: {last_line(log)}")


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it printed nothing"
