"""What clients see while the server stops, and how long that takes. `make chaos` found both."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.acceptance.conftest import REPOSITORY, Server
from tests.acceptance.test_models import deploy
from tests.acceptance.training_calls import begin, query
from tests.protocols.test_serving import Held

Start = Callable[..., Server]

ECHO = '{"x": {"dtype": "float32", "shape": [-1, 2]}}'


@pytest.mark.slow
def test_a_model_is_never_unknown_while_the_server_stops(start: Start, tmp_path: Path) -> None:
    server = start()
    for name, options in {"quick": {}, "slow": {"max_delay": 3, "max_batch_size": 8}}.items():
        server.call("/create_workspace/", name=name)
        (path := tmp_path / f"{name}.echo").write_text(ECHO)
        assert deploy(server, name, path, **options)["result"] is True
    held = Held(server, "slow", 1)
    statuses: dict[int, str] = {}

    def predict() -> None:
        with httpx.Client(base_url=server.url, timeout=30) as http:
            while True:
                try:
                    answer = http.post("/v1/models/quick:predict", json={"instances": [[1, 2]]})
                except httpx.HTTPError:
                    return
                statuses.setdefault(answer.status_code, answer.text)

    thread = threading.Thread(target=predict)
    thread.start()
    assert server.stop(signal.SIGTERM) == 0
    thread.join()
    assert held.all_answered(), held.answers
    assert set(statuses) <= {200, 503}, statuses
    assert "the server is stopping" in statuses.get(503, "the server is stopping")


def slow_tensorflow(folder: Path) -> str:
    """A PYTHONPATH as on a machine on which TensorFlow takes ten minutes to load."""
    (fake := folder / "fake" / "tensorflow").mkdir(parents=True)
    (fake / "__init__.py").write_text("import time\ntime.sleep(600)\n")
    return f"{fake.parent}:{REPOSITORY}"


@pytest.mark.slow
def test_a_training_that_waits_for_tensorflow_does_not_hold_up_the_stop(
    start: Start, tmp_path: Path, digits: Path
) -> None:
    server = start(PYTHONPATH=slow_tensorflow(tmp_path))
    task = begin(server, Path(shutil.copytree(digits, tmp_path / "project")))["taskId"]
    while query(server, task)["state"] != "processing":
        time.sleep(0.05)
    begun_at = time.monotonic()
    assert server.stop(signal.SIGTERM) == 0
    assert time.monotonic() - begun_at < 20, "the drain time, and not TensorFlow's 600 s"
    assert "Traceback" not in server.log
    again = start("--train-workers", "0")
    assert query(again, task)["state"] == "pending", "the next start continues it"
    assert again.http.post(f"/tasks/{task}/cancel").status_code == 200


@pytest.mark.slow
def test_a_training_that_waits_for_tensorflow_is_cancelled_at_once(start: Start, tmp_path: Path, digits: Path) -> None:
    server = start(PYTHONPATH=slow_tensorflow(tmp_path))
    task = begin(server, Path(shutil.copytree(digits, tmp_path / "project")))["taskId"]
    while query(server, task)["state"] != "processing":
        time.sleep(0.05)
    answer = server.http.post(f"/tasks/{task}/cancel", timeout=20)
    assert (answer.status_code, query(server, task)["state"]) == (200, "cancelled"), answer.text
