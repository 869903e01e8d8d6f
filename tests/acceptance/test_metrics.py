"""/metrics says exactly what was asked of the server, whichever of its web processes is asked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.acceptance.conftest import Server, command

Start = Callable[..., Server]


class Scraped:
    """One scrape, parsed."""

    def __init__(self, server: Server) -> None:
        # A connection of its own, so that the kernel chooses a web process.
        answer = httpx.get(f"{server.url}/metrics", timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/plain; version=")
        self.families = {family.name: family for family in parse(answer.text)}
        self._samples = [sample for family in self.families.values() for sample in family.samples]

    def all(self, name: str, **labels: str) -> list[float]:
        return [
            sample.value
            for sample in self._samples
            if sample.name == f"tfserve_{name}" and labels.items() <= sample.labels.items()
        ]

    def one(self, name: str, **labels: str) -> float:
        (value,) = self.all(name, **labels)
        return value


def predict(server: Server, model: str, rows: list[list[float]]) -> httpx.Response:
    """With a connection of its own."""
    return httpx.post(f"{server.url}/v1/models/{model}:predict", json={"instances": rows}, timeout=30)


def deploy_echo(server: Server, name: str) -> None:
    file = server.roots / "m.echo"
    file.write_text(json.dumps({"x": {"dtype": "float32", "shape": [-1, 2]}}))
    server.call("/create_workspace/", name=name)
    assert server.call("/deploy/", name=name, path=str(file), timeout=60)["result"] is True


def web_processes(server: Server) -> list[psutil.Process]:
    return [process for process in server.processes() if "tfserve.web.app" in command(process)]


def test_the_numbers_of_a_model_grow_by_exactly_what_was_asked(server: Server, workspace: str, models: Path) -> None:
    server.call("/deploy/", name=workspace, path=str(models / "scale" / "2"), timeout=60)
    before = Scraped(server)
    assert before.all("model_requests_total", model=workspace) == []
    assert before.one("model_replicas", model=workspace, version="2") == 1
    for _ in range(7):
        assert predict(server, workspace, [[1.0, 2.0]]).json() == {"predictions": [[2.0, 4.0]]}
    assert predict(server, workspace, [[1.0, 2.0]] * 3).status_code == 200
    errors = before.all("http_errors_total", api="v1", status="400")
    assert predict(server, workspace, [[1.0]]).status_code == 400
    now, labels = Scraped(server), {"model": workspace, "version": "2"}
    assert now.one("model_requests_total", **labels, protocol="v1", outcome="ok") == 8
    assert now.one("model_request_duration_seconds_count", **labels, protocol="v1") == 8
    assert now.one("model_request_duration_seconds_bucket", **labels, le="30.0") == 8
    assert 0 < now.one("model_request_duration_seconds_sum", **labels) < 60
    assert now.one("model_queue_duration_seconds_count", **labels) == 8
    assert now.one("model_batch_rows_count", **labels) == 8
    assert now.one("model_batch_rows_sum", **labels) == 10
    assert now.one("model_batch_rows_bucket", **labels, le="2.0") == 7
    assert now.one("model_batch_rows_bucket", **labels, le="4.0") == 8
    assert now.one("model_requests_in_flight", **labels) == 0
    assert now.one("http_errors_total", api="v1", status="400") == sum(errors) + 1
    assert now.one("process_resident_memory_bytes", role="model", workspace=workspace) > 50 * 2**20
    server.call("/undeploy/", name=workspace, timeout=60)
    assert Scraped(server).all("model_requests_total", model=workspace) == []
    assert Scraped(server).all("model_replicas", model=workspace) == []


def test_jobs_are_counted_by_outcome_and_deaths_by_role(server: Server, workspace: str) -> None:
    server.run(workspace, "x = 1")
    server.run(workspace, "raise ValueError")
    labels = {"workspace": workspace}
    now = Scraped(server)
    assert now.one("workspace_jobs_total", **labels, kind="script", outcome="succeeded") == 1
    assert now.one("workspace_jobs_total", **labels, kind="script", outcome="failed") == 1
    assert now.one("workspace_jobs_total", **labels, kind="script", outcome="lost") == 0
    assert now.one("process_deaths_total", **labels, role="script") == 0
    assert now.one("workspace_state", **labels, state="ready") == 1
    assert now.one("process_cpu_seconds_total", **labels, role="script") > 0
    server.run(workspace, "import os; os._exit(3)")
    now = Scraped(server)
    assert now.one("workspace_jobs_total", **labels, kind="script", outcome="lost") == 1
    assert now.one("process_deaths_total", **labels, role="script") == 1
    server.call("/push_job/", name=workspace, job="import time; time.sleep(60)", type=1)
    server.call("/push_job/", name=workspace, job="pass", type=1)
    now = Scraped(server)
    assert (now.one("workspace_jobs_running", **labels), now.one("workspace_jobs_waiting", **labels)) == (1, 1)
    server.call("/destroy_workspace/", name=workspace)
    now = Scraped(server)
    for family in now.families.values():
        assert all(sample.labels.get("workspace") != workspace for sample in family.samples), "nothing stays"


def test_every_metric_is_explained_and_comes_in_both_formats_and_at_both_paths(server: Server) -> None:
    for family in Scraped(server).families.values():
        assert family.name.startswith("tfserve_")
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram", "summary")
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    answer = server.http.get("/monitoring/prometheus/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert "tfserve_process_deaths" in {family.name for family in parse_openmetrics(answer.text)}
    assert server.http.post("/metrics").status_code == 405
    roles = {sample.labels["role"] for sample in Scraped(server).families["tfserve_process_cpu_seconds"].samples}
    assert {"supervisor", "web", "guardian"} <= roles


@pytest.mark.slow
def test_two_web_processes_report_one_truth_which_outlives_one_that_hangs(start: Start) -> None:
    server = start("--web-processes", "2")
    deploy_echo(server, "m")
    for _ in range(30):
        assert predict(server, "m", [[1.0, 2.0]]).status_code == 200
    assert {Scraped(server).one("model_requests_total", model="m", outcome="ok") for _ in range(8)} == {30}
    assert Scraped(server).all("process_deaths_total", role="web") == [0]
    for _ in range(8):  # whichever process answers
        (told,) = server.http.get("/v2/models/m/stats", headers={"connection": "close"}).json()["model_stats"]
        assert (told["inference_count"], told["inference_stats"]["success"]["count"]) == (30, 30)
        assert told["last_inference"] / 1000 == pytest.approx(time.time(), abs=60)
    first, _ = web_processes(server)
    first.suspend()
    for _ in range(4):  # half of the connections wait for the process that replaces it
        assert Scraped(server).one("model_requests_total", model="m", outcome="ok") == 30, "what it has counted stays"
    first.wait(40)
    now = Scraped(server)
    assert now.one("model_requests_total", model="m", outcome="ok") == 30
    assert now.one("process_deaths_total", role="web") == 1
    for _ in range(10):
        assert predict(server, "m", [[1.0, 2.0]]).status_code == 200
    assert {Scraped(server).one("model_requests_total", model="m", outcome="ok") for _ in range(4)} == {40}
