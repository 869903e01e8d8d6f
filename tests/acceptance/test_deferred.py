"""Deferred predictions: `Prefer: respond-async` in v1 and v2."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest

from tests.acceptance.conftest import Server
from tests.acceptance.model_jobs import LATER, ended, files_of, process_of, with_echo
from tests.acceptance.test_access import bearer, token

V1, V2 = "/v1/models/m:predict", "/v2/models/m/infer"
INPUT = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
BINARY = {"inputs": [INPUT], "parameters": {"binary_data_output": True}}
REQUESTS = [
    (V1, {"instances": [[1, 2, 3], [4, 5, 6]]}), (V1, {"inputs": {"x": [[1, 2, 3]]}}),
    ("/v1/models/m/versions/1:predict", {"instances": [[1, 2, 3]]}), (V2, {"inputs": [INPUT], "id": "7"}),
    ("/v2/models/m/versions/1/infer", {"inputs": [INPUT]}), (V2, BINARY),
]  # fmt: skip
BAD = [
    (V1, {"instances": [[1, 2]]}, 400), (V1, {"instances": []}, 400), (V1, {"signature_name": "no"}, 400),
    (V2, {"inputs": [{**INPUT, "shape": [1, 4]}]}, 400),
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("deferred") / "data", "--max-deferred", "20")
    with_echo(running)
    yield running
    running.close()
    assert "Traceback" not in running.log, running.log


def defer(server: Server, path: str, body: object, **headers: str) -> int:
    answer = server.http.post(path, json=body, headers={**LATER, **headers})
    assert answer.status_code == 202, answer.text
    job: int = answer.json()["job"]
    assert answer.headers["location"] == f"/jobs/{job}/"
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.json()["state"] in ("queued", "running", "succeeded", "failed")
    return job


@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_the_result_is_what_the_direct_request_returns(server: Server, path: str, body: object) -> None:
    direct = server.http.post(path, json=body)
    assert direct.status_code == 200, direct.text
    job = ended(server, defer(server, path, body))
    assert (job["kind"], job["state"], job["model"], job["error"]) == ("deferred", "succeeded", "m", None)
    response = server.http.get(f"/jobs/{job['id']}/result")
    soon = server.http.post(path, json=body, headers={"Prefer": "respond-async, wait=30"})
    assert soon.headers["preference-applied"] == "respond-async, wait=30"
    for each in (response, soon):
        assert (each.status_code, each.content) == (200, direct.content)
        for name in ("content-type", "inference-header-content-length"):
            assert each.headers.get(name) == direct.headers.get(name)
    if direct.headers["content-type"] == "application/json":
        assert job["result"] == direct.json()
    else:
        assert job["result"] is None
        assert job["detail"]["bytes"] == len(direct.content)


def test_a_binary_request_of_version_2_keeps_its_bytes(server: Server) -> None:
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    head = json.dumps({
        "inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": 24}}],
        "outputs": [{"name": "x", "parameters": {"binary_data": True}}],
    }).encode()  # fmt: skip
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = server.http.post(V2, content=head + values.tobytes(), headers={**headers, **LATER})
    found = server.http.get(f"/jobs/{answer.json()['job']}/result", params={"wait": 30})
    assert found.content[int(found.headers["inference-header-content-length"]) :] == values.tobytes()


@pytest.mark.parametrize(("path", "body", "status"), BAD)
def test_the_job_fails_with_the_error_of_the_direct_request(
    server: Server, path: str, body: object, status: int
) -> None:
    direct = server.http.post(path, json=body)
    assert direct.status_code == status
    job = ended(server, defer(server, path, body))
    assert (job["state"], job["error"]["message"], job["result"]) == ("failed", direct.json()["error"], None)
    soon = server.http.post(path, json=body, headers={"Prefer": "respond-async, wait=30"})
    assert (soon.status_code, soon.json()) == (status, direct.json())
    later = server.http.get(f"/jobs/{job['id']}/result")
    assert (later.status_code, later.json()["result"]) == (status, direct.json()["error"])


def test_what_can_be_refused_at_once_submits_no_job(server: Server) -> None:
    before = server.http.get("/jobs/").json()["result"]["total"]
    for path, headers, status in (
        ("/v1/models/none:predict", {}, 404),
        (V1, {"X-TFserve-Callback": "http://10.0.0.1/"}, 400),
        (V1, {"X-TFserve-Callback": "nonsense"}, 400),
        (V1, {"Idempotency-Key": "x" * 300}, 400),
    ):
        answer = server.http.post(path, json={"instances": [[1, 2, 3]]}, headers={**LATER, **headers})
        assert answer.status_code == status, answer.text
        assert answer.json().keys() == {"error"}
    assert server.http.get("/jobs/").json()["result"]["total"] == before
    assert server.http.get("/jobs/1/result").status_code == 404


def test_a_repeated_request_with_the_same_key_is_one_job(server: Server) -> None:
    body = {"instances": [[7, 8, 9]]}
    first = defer(server, V1, body, **{"Idempotency-Key": "k"})
    assert ended(server, first)["state"] == "succeeded"
    before = files_of(server)
    assert defer(server, V1, body, **{"Idempotency-Key": "k"}) == first
    soon = server.http.post(V1, json=body, headers={"Prefer": "respond-async, wait=5", "Idempotency-Key": "k"})
    assert soon.json() == {"predictions": [[7.0, 8.0, 9.0]]}
    other = server.http.post(V1, json={"instances": [[1, 1, 1]]}, headers={**LATER, "Idempotency-Key": "k"})
    assert other.status_code == 409
    assert files_of(server) == before


def test_a_prediction_is_repeated_while_its_body_is_kept(server: Server) -> None:
    first = ended(server, defer(server, V1, {"instances": [[1, 2, 3]]}))
    again = ended(server, server.call(f"/jobs/{first['id']}/repeat")["id"])
    assert again["id"] > first["id"]
    assert (again["state"], again["result"], again["request"]) == ("succeeded", first["result"], first["request"])
    failed = ended(server, defer(server, V1, {"instances": [[1, 2]]}))
    assert ended(server, server.call(f"/jobs/{failed['id']}/repeat")["id"])["error"] == failed["error"]
    large = ended(server, defer(server, V1, {"instances": [[1, 2, 3]] * 200_000}))
    path = f"/jobs/{large['id']}/repeat"
    while (refused := server.http.post(path)).status_code == 200:  # its body is removed a moment after its end
        pass
    assert (refused.status_code, "larger than 1 MiB" in refused.json()["result"]) == (409, True)


def test_a_full_queue_is_429_with_retry_after_and_a_waiting_job_can_be_cancelled(server: Server) -> None:
    body = {"instances": [[1, 2, 3]]}
    assert ended(server, defer(server, V1, body))["state"] == "succeeded"
    process = process_of(server, "batch.process")
    process.send_signal(signal.SIGSTOP)
    try:
        jobs = [defer(server, V1, body) for _ in range(20)]
        refused = server.http.post(V1, json=body, headers=LATER)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert "max_deferred" in refused.json()["error"]
        assert server.http.post(V1, json=body).json() == {"predictions": [[1.0, 2.0, 3.0]]}
        pending = server.http.get(f"/jobs/{jobs[0]}/result")
        assert "Only a job that has ended can be repeated" in server.refused(f"/jobs/{jobs[0]}/repeat")[1]
        assert pending.status_code == 409
    finally:
        process.send_signal(signal.SIGCONT)
    assert {ended(server, job)["state"] for job in jobs} == {"succeeded"}


@pytest.mark.slow
def test_a_prediction_survives_kill_9_of_every_process(start: Callable[..., Server]) -> None:
    server = start()
    with_echo(server)
    body = {"instances": [[1, 2, 3]]}
    assert ended(server, defer(server, V1, body))["state"] == "succeeded"
    process_of(server, "batch.process").send_signal(signal.SIGSTOP)  # so that the next ones are running when it dies
    jobs = [defer(server, V1, body) for _ in range(3)]
    process_of(server, "batch.process").kill()
    assert [ended(server, job)["state"] for job in jobs] == ["succeeded"] * 3
    process_of(server, "batch.process").send_signal(signal.SIGSTOP)
    jobs += [defer(server, V1, body) for _ in range(40)]
    server.stop(signal.SIGKILL)
    again = start()
    assert [ended(again, job)["state"] for job in jobs] == ["succeeded"] * 43
    for job in jobs:
        assert again.http.get(f"/jobs/{job}/result").json() == {"predictions": [[1.0, 2.0, 3.0]]}


def test_jobs_of_other_tokens_are_invisible(start: Callable[..., Server]) -> None:
    server = start("--auth", "on")
    server.http.headers.update(bearer(token(server, "root", "admin")))
    with_echo(server)
    one, two = (
        httpx.Client(base_url=server.url, timeout=60, headers=bearer(token(server, name, "predict", workspaces=["m"])))
        for name in ("one", "two")
    )
    with one, two:
        job = one.post(V1, json={"instances": [[1, 2, 3]]}, headers=LATER).json()["job"]
        assert one.get(f"/jobs/{job}/", params={"wait": 30}).json()["result"]["state"] == "succeeded"
        assert [each["id"] for each in one.get("/jobs/", params={"kind": "deferred"}).json()["result"]["jobs"]] == [job]
        assert two.get("/jobs/", params={"kind": "deferred"}).json()["result"]["jobs"] == []
        for path in (f"/jobs/{job}/", f"/jobs/{job}/result", f"/batch/{job}", f"/batch/{job}/output"):
            assert two.get(path).status_code == 404
        for path in (f"/jobs/{job}/repeat", f"/batch/{job}/resume"):
            assert two.post(path).status_code == 404
        assert two.post(f"/jobs/{job}/cancel").status_code == 404
        secrets = {client.get("/callbacks/secret").json()["result"]["secret"] for client in (one, two, server.http)}
        assert len(secrets) == 3
        refused = one.post("/batch/", json={"name": "m", "input": str(server.roots / "m.echo"), "format": "jsonl"})
        assert refused.status_code == 400
        assert "outside the readable folders" in refused.json()["result"]
