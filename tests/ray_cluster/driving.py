"""What tests do to the processes of a machine, and to a model meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil

from tests.ray_cluster.machines import Machine

ROWS: dict[str, object] = {"instances": [[1.0, 2.0]]}


def predict(url: str, model: str, rows: dict[str, object] = ROWS) -> httpx.Response:
    return httpx.post(f"{url}/v1/models/{model}:predict", json=rows, timeout=60)


def pids_of(machine: Machine, *words: str) -> list[int]:
    """The processes on a machine whose command line has all of these words."""
    found = []
    for pid in machine.pids():
        with contextlib.suppress(psutil.Error):
            line = " ".join(psutil.Process(pid).cmdline())
            if all(word in line for word in words):
                found.append(pid)
    return found


def kill(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def asked(url: str, model: str) -> Iterator[list[tuple[int, str]]]:
    """Asks a model again and again meanwhile; what came back, as status and text."""
    answers: list[tuple[int, str]] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not stop.is_set():
                try:
                    answer = client.post(f"/v1/models/{model}:predict", json=ROWS)
                    answers.append((answer.status_code, answer.text))
                except httpx.HTTPError as error:
                    answers.append((0, repr(error)))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join()
