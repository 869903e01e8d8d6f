"""Deferred predictions and batches of a stateful model: each request changes its state at most once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.conftest import Server
from tests.acceptance.model_jobs import LATER, batch_output, ended, process_of

pytestmark = pytest.mark.slow


@pytest.fixture
def counter(server: Server, workspace: str, models: Path) -> str:
    """A model that adds the number of its computations to its input."""
    deployed = server.call("/deploy/", name=workspace, path=str(models / "counter"), timeout=60)
    assert deployed["result"] is True, deployed
    return workspace


@pytest.fixture
def stopped(server: Server, counter: str) -> Iterator[psutil.Process]:
    """The process of the model, which does nothing before it is continued."""
    process = psutil.Process(server.call("/get_status/", name=counter)["deployment"]["pid"])
    process.send_signal(signal.SIGSTOP)
    yield process
    process.send_signal(signal.SIGCONT)


def computed(server: Server, name: str) -> float:
    """How often the model has computed, with this request."""
    answer = server.http.post(f"/v1/models/{name}:predict", json={"instances": [[0, 0]]})
    return float(answer.json()["predictions"][0][0])


def wait_until_sent(server: Server, job_id: int, before: set[Path]) -> None:
    """Returns when a request of the job may have reached the model."""
    while not set(server.data_dir.glob("model-jobs/*/computing")) - before:
        job = server.http.get(f"/jobs/{job_id}/", params={"wait": 1}).json()["result"]
        assert job["state"] in ("queued", "running"), job


def test_a_prediction_that_was_interrupted_is_lost_instead_of_computed_twice(
    server: Server, counter: str, stopped: psutil.Process
) -> None:
    before = set(server.data_dir.glob("model-jobs/*/computing"))
    answer = server.http.post(f"/v1/models/{counter}:predict", json={"instances": [[0, 0]]}, headers=LATER)
    job_id = answer.json()["job"]
    wait_until_sent(server, job_id, before)
    process_of(server, "batch.process").kill()
    job = ended(server, job_id)
    assert (job["state"], job["error"]["code"]) == ("lost", "lost")
    assert "stateful and may have computed this already" in job["error"]["message"]
    result = server.http.get(f"/jobs/{job_id}/result")
    assert (result.status_code, "stateful" in result.json()["error"]["message"]) == (503, True)
    stopped.send_signal(signal.SIGCONT)
    assert computed(server, counter) <= 2, "the lost request and this one"
    again = server.http.post(f"/jobs/{job_id}/repeat").json()["result"]
    assert ended(server, again["id"])["state"] == "succeeded"


def test_the_rows_of_a_batch_are_computed_in_order_and_one_at_a_time(
    server: Server, counter: str, tmp_path: Path
) -> None:
    rows = server.roots / "counted.jsonl"
    rows.write_text("[0, 0]\n" * 150)
    batch = server.call("/batch/", name=counter, input=str(rows), batch_size=50, timeout=60)
    assert batch["state"] == "succeeded", batch
    found = [line["prediction"][0] for line in batch_output(server, batch["id"])]
    assert found == [float(n) for n in range(1, 151)]


def test_an_interrupted_batch_is_lost_until_somebody_resumes_it(
    server: Server, counter: str, stopped: psutil.Process
) -> None:
    rows = server.roots / "interrupted.jsonl"
    rows.write_text("[0, 0]\n" * 10)
    before = set(server.data_dir.glob("model-jobs/*/computing"))
    batch = server.call("/batch/", name=counter, input=str(rows))
    wait_until_sent(server, batch["id"], before)
    process_of(server, "batch.process").kill()
    job = ended(server, batch["id"])
    assert job["state"] == "lost"
    assert "rows after the first 0 may have been computed" in job["error"]["message"]
    assert f"POST /batch/{batch['id']}/resume" in job["error"]["message"]
    stopped.send_signal(signal.SIGCONT)
    resumed = server.call(f"/batch/{batch['id']}/resume", timeout=60)
    assert (resumed["state"], resumed["done"]) == ("succeeded", 10)
