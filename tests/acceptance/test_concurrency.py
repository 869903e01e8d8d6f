"""Batches that a model computes at the same time: every row gets its own answer, and a death has its cause."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import Server
from tests.acceptance.test_models import deploy, deployment

pytestmark = pytest.mark.slow

CLIENTS, REQUESTS = 32, 12


class Clients:
    """Connections that each send one request after the other, with numbers of their own."""

    def __init__(self, server: Server, name: str) -> None:
        self._url = f"{server.http.base_url}/v1/models/{name}:predict"
        self._headers = dict(server.http.headers)
        self.answered = threading.Semaphore(0)

    def send(self, requests: int = REQUESTS) -> list[tuple[float, Any]]:
        """The number of each request with its answer: a row, or the message of an error."""
        with ThreadPoolExecutor(CLIENTS) as threads:
            found = list(threads.map(lambda client: self._of_one(client, requests), range(CLIENTS)))
        return [each for one in found for each in one]

    def _of_one(self, client: int, requests: int) -> list[tuple[float, Any]]:
        found = []
        with httpx.Client(headers=self._headers, timeout=60, trust_env=False) as http:
            for n in range(requests):
                number = float(client * 1000 + n)
                answer = http.post(self._url, json={"instances": [[number, -number]]}).json()
                found.append((number, answer["predictions"][0] if "predictions" in answer else answer["error"]))
                self.answered.release()
        return found


@pytest.fixture
def wide(server: Server, workspace: str, models: Path) -> str:
    """A workspace with a model that computes two batches at once."""
    job = deploy(server, workspace, models / "wide", runtime="tensorflow", computations=2)
    assert job["result"] is True, job
    return workspace


def test_every_row_of_concurrent_batches_has_its_own_answer(server: Server, wide: str) -> None:
    answers = Clients(server, wide).send()
    assert len(answers) == CLIENTS * REQUESTS
    assert [each for each in answers if each[1] != [2 * each[0], -2 * each[0]]] == []
    found = deployment(server, wide)["concurrency"]
    assert found["computations"] == 2
    assert 1 <= found["max_batch"] <= 64
    metrics = server.http.get("/metrics").text
    assert f'tfserve_model_computations{{model="{wide}",version="1"}} 2.0' in metrics
    config = server.http.get(f"/v2/models/{wide}/config").json()
    assert config["parameters"]["computations"]["string_value"] == "2"
    assert "2 batches at once" in server.http.get(f"/pages/models/{wide}/").text


def test_a_death_during_concurrent_batches_reports_its_cause_and_mixes_nothing(server: Server, wide: str) -> None:
    clients = Clients(server, wide)
    pid = deployment(server, wide)["pid"]

    def kill() -> None:
        for _ in range(CLIENTS):
            clients.answered.acquire(timeout=60)
        os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    answers = clients.send(4 * REQUESTS)
    killer.join()
    wrong = Counter(each for number, each in answers if isinstance(each, str))
    assert wrong, "some requests were computed when the process died"
    assert all("worker" in message for message in wrong), wrong
    assert any("SIGKILL" in message for message in wrong), wrong
    assert all(each == [2 * number, -2 * number] for number, each in answers if not isinstance(each, str))


def test_a_stateful_model_computes_one_request_at_a_time(server: Server, workspace: str, models: Path) -> None:
    job = deploy(server, workspace, models / "counter", computations=2)
    assert job["result"] is True, job
    answers = Clients(server, workspace).send(4)
    counted = sorted(row[0] - number for number, row in answers)
    assert counted == [float(n + 1) for n in range(CLIENTS * 4)], "each was computed once, and none with another"
    assert deployment(server, workspace)["concurrency"]["computations"] == 1
