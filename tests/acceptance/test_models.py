"""Models: deployed aside, updated without a gap, undeployed to the last byte, and restored after a death."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.acceptance.conftest import Server, command
from tests.acceptance.test_jobs import in_parallel

Start = Callable[..., Server]

X = [[1.0, 2.0]]


def deploy(server: Server, name: str, path: Path, **fields: Any) -> Any:
    return server.call("/deploy/", name=name, path=str(path), timeout=60, **fields)


def predict(server: Server, name: str, x: Any = X, fetches: Any = "y", **fields: Any) -> Any:
    return server.call("/predict/", name=name, fetches=fetches, feed_dict={"x": x}, timeout=60, **fields)


def deployment(server: Server, name: str) -> Any:
    return server.call("/get_status/", name=name)["deployment"]


def test_a_model_is_deployed_used_updated_and_undeployed(server: Server, workspace: str, models: Path) -> None:
    job = deploy(server, workspace, models / "scale" / "1")
    assert (job["result"], job["version"], job["format"]) == (True, 1, "SavedModel")
    assert predict(server, workspace)["result"] == [[[1.0, 2.0]]]
    assert server.run(workspace, "x = 1")["job"] == 2, "one queue for every kind of job"
    job = server.call("/update/", name=workspace, path=str(models / "scale" / "2"), timeout=60)
    assert (job["result"], job["version"]) == (True, 2)
    assert predict(server, workspace)["result"] == [[[2.0, 4.0]]]
    pid = deployment(server, workspace)["pid"]
    job = server.call("/undeploy/", name=workspace, timeout=60)
    assert job["result"] is True
    assert job["memory_freed_bytes"] > 50 * 2**20
    assert not psutil.pid_exists(pid)
    assert deployment(server, workspace) is None
    job = predict(server, workspace)
    assert (job["finish"], job["result"]) == (True, None)
    assert "/deploy/" in job["error"]["message"]
    assert server.call("/undeploy/", name=workspace, timeout=30)["result"] is False
    results = server.call("/get_result/", name=workspace)
    assert results == [True, [[[1.0, 2.0]]], True, True, [[[2.0, 4.0]]], True, None, False]


def test_the_highest_version_of_a_folder_is_deployed(server: Server, workspace: str, models: Path) -> None:
    assert deploy(server, workspace, models / "scale")["version"] == 2
    assert predict(server, workspace)["result"] == [[[2.0, 4.0]]]


@pytest.mark.parametrize("file", ["net.keras", "net.h5"])
def test_keras_files_are_deployed(server: Server, workspace: str, models: Path, file: str) -> None:
    assert deploy(server, workspace, models / file)["result"] is True
    signature = deployment(server, workspace)["signatures"]["serving_default"]
    (name,), (output,) = ([each["name"] for each in signature[side]] for side in ("inputs", "outputs"))
    job = server.call("/predict/", name=workspace, fetches=output, feed_dict={name: X}, timeout=60)
    assert job["result"] == [[[3.0]]]


def test_a_lambda_layer_is_refused_with_the_reason(server: Server, workspace: str, models: Path) -> None:
    job = deploy(server, workspace, models / "lambda.keras")
    assert job["result"] is False
    assert "Lambda" in job["error"]["message"]


@pytest.mark.slow
def test_a_meta_graph_is_deployed_fetched_by_collection_and_given_new_weights(
    server: Server, workspace: str, models: Path
) -> None:
    for path in (models / "one", models / "one.meta"):
        assert deploy(server, workspace, path)["result"] is True
    feed = {"inputs": X}
    fetches = ["outputs", "y:0"]
    assert server.call("/predict/", name=workspace, fetches=fetches, feed_dict=feed, timeout=60)["result"] == [
        [[5.0]],
        [[5.0]],
    ]
    job = server.call("/update/", name=workspace, path=str(models / "two"), timeout=60)
    assert job["result"], job["error"]
    assert job["version"] == 3
    assert server.call("/predict/", name=workspace, fetches="outputs", feed_dict=feed, timeout=60)["result"] == [
        [[50.0]]
    ]


def test_unknown_names_fail_the_job_and_list_what_exists(server: Server, workspace: str, models: Path) -> None:
    deploy(server, workspace, models / "scale")
    job = predict(server, workspace, fetches="z")
    assert (job["state"], job["result"]) == ("failed", None)
    assert "y" in job["error"]["message"]
    job = server.call("/predict/", name=workspace, fetches="y", feed_dict={"w": X}, timeout=60)
    assert "x" in job["error"]["message"]
    job = predict(server, workspace, signature="other")
    assert "serving_default" in job["error"]["message"]
    for x in ([[1.0], [1.0, 2.0]], "text", [[1, "a"]], [[1.0, 2.0, 3.0]], None, {"a": 1}):
        job = predict(server, workspace, x)
        assert job["state"] == "failed"
        assert "x" in job["error"]["message"]
    assert predict(server, workspace)["state"] == "succeeded"


@pytest.mark.slow
def test_a_device_that_is_not_there_is_reported_with_those_that_are(
    server: Server, workspace: str, models: Path
) -> None:
    assert deploy(server, workspace, models / "scale", device="/cpu:0")["result"] is True
    job = deploy(server, workspace, models / "scale", device="/gpu:7")
    assert job["result"] is False
    assert "/cpu:0" in job["error"]["message"]
    assert predict(server, workspace)["result"] == [[[2.0, 4.0]]], "what was serving goes on"


def test_a_model_that_reads_files_is_refused_with_the_operation(server: Server, workspace: str, models: Path) -> None:
    job = deploy(server, workspace, models / "reader.pb")
    assert job["result"] is False
    assert "reader.pb was not loaded: ReadFile ('read') reads files." in job["error"]["message"]
    assert "TFSERVE_ALLOW_UNSAFE_OPS=1" in job["error"]["message"]


@pytest.mark.slow
def test_a_model_that_reads_files_is_served_with_a_remark_if_the_operator_allows_it(
    start: Start, models: Path, tmp_path: Path
) -> None:
    server = start(TFSERVE_ALLOW_UNSAFE_OPS="1")
    shutil.copy(models / "reader.pb", tmp_path)
    server.call("/create_workspace/", name="a")
    job = deploy(server, "a", tmp_path / "reader.pb")
    assert job["remarks"][-1] == "it has unsafe operations, which this server allows: ReadFile ('read') reads files"
    assert predict(server, "a")["result"] == [X]
    assert deployment(server, "a")["remarks"] == job["remarks"]


def test_a_path_without_a_model_is_refused_at_once_and_without_a_process(server: Server, workspace: str) -> None:
    folder = server.roots / "no models"
    folder.mkdir()
    (folder / "weights.pt").write_bytes(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + bytes(100))
    (folder / "model.keras").write_bytes(b"junk" * 100)
    os.mkfifo(folder / "model.onnx")
    processes = {each.pid for each in server.processes()}
    refused = {"missing": "does not exist", "": "contains no model", "weights.pt": "torch.onnx.export"}
    for name, words in {**refused, "model.keras": "damaged or not a model", "model.onnx": "a pipe"}.items():
        job = server.call("/deploy/", name=workspace, path=str(folder / name), timeout=60)
        assert (job["finish"], job["state"], job["result"]) == (True, "failed", False)
        assert words in job["error"]["message"]
        assert job["time"] < 2, "with TensorFlow it takes more"
    new = [command(each) for each in server.processes() if each.pid not in processes]
    assert not [each for each in new if "--warm" not in each], new  # the spare for the test before may come only now


def broken_models(models: Path, folder: Path) -> dict[str, Path]:
    """Copies of a good model with something wrong."""
    good = models / "scale" / "1"
    shutil.copytree(good, folder / "corrupt")
    data = next((folder / "corrupt" / "variables").glob("*.data*"))
    data.write_bytes(data.read_bytes()[:1])
    (folder / "empty.keras").write_bytes(b"")
    names = ("missing", "corrupt", "empty.keras")
    return {name: folder / name for name in names}


def test_a_broken_model_is_reported_with_the_cause_and_what_was_serving_continues(
    server: Server, workspace: str, models: Path
) -> None:
    deploy(server, workspace, models / "scale")
    pid = deployment(server, workspace)["pid"]
    folder = server.roots / "broken"
    folder.mkdir()
    for name, path in broken_models(models, folder).items():
        call = "/deploy/" if name == "corrupt" else "/update/"
        job = server.call(call, name=workspace, path=str(path), timeout=60)
        assert (job["state"], job["result"]) == ("failed", False), name
        assert name in job["error"]["message"]
        assert "Traceback" not in job["error"]["message"]
    status = server.call("/get_status/", name=workspace)
    assert status["deployment"]["pid"] == pid
    assert "empty.keras" in status["last_deployment_failure"]
    assert predict(server, workspace)["result"] == [[[2.0, 4.0]]]
    assert server.http.get("/v2/health/ready").status_code == 200, (
        "one tenant's failure does not make the server unready"
    )


def loaded(server: Server, workspace: str, call: str, path: Path) -> Any:
    """The job of a deployment for which several processes may be needed, when it has ended."""
    job = server.call(call, name=workspace, path=str(path), timeout=0)
    server.wait(workspace, job["job"], timeout=150)
    return server.http.get(f"/jobs/{job['id']}").json()["result"]


@pytest.mark.slow
def test_a_version_whose_process_dies_of_every_input_is_rolled_back_with_the_reason(
    server: Server, workspace: str, models: Path
) -> None:
    deploy(server, workspace, models / "scale")
    job = loaded(server, workspace, "/update/", models / "abort_at_once")
    assert job["result"] is False
    assert "SIGABRT" in job["error"]["message"]
    assert "SIGABRT" in server.call("/get_status/", name=workspace)["last_deployment_failure"]
    assert predict(server, workspace)["result"] == [[[2.0, 4.0]]]


@pytest.mark.slow
def test_a_model_whose_process_dies_of_zeros_only_is_served_with_a_remark(
    server: Server, workspace: str, models: Path
) -> None:
    job = loaded(server, workspace, "/deploy/", models / "abort_at_zeros")
    assert job["result"] is True
    (remark,) = job["detail"]["remarks"]
    assert remark.startswith("not warmed up with zeros: its process ended")
    assert "SIGABRT" in remark
    assert predict(server, workspace)["result"] == [[[1.0, 2.0]]]


@pytest.mark.slow
def test_a_model_whose_process_dies_of_batches_is_served_one_by_one_with_a_remark(
    server: Server, workspace: str, models: Path
) -> None:
    """It takes long, so batches are compared while it serves."""
    assert loaded(server, workspace, "/deploy/", models / "abort_in_batches")["result"] is True
    revision, batches = 0, []
    while not batches or server.call("/get_status/", name=workspace)["deployment"]["state"] != "active":
        revision = server.http.get("/server/", params={"since": revision, "wait": 30}).json()["result"]["revision"]
        remarks = server.call("/get_status/", name=workspace)["deployment"]["remarks"]
        batches = [each for each in remarks if each.startswith("not warmed up with batches: its process ended")]
    assert "SIGABRT" in batches[0]
    assert predict(server, workspace)["result"] == [[[1.0, 2.0]]]


@pytest.mark.slow
def test_a_version_that_refuses_what_is_made_up_serves_with_a_remark(
    server: Server, workspace: str, models: Path
) -> None:
    job = server.call("/deploy/", name=workspace, path=str(models / "fail_at_once"), timeout=60)
    assert job["result"] is True
    assert "too small" in job["remarks"][0]
    assert server.call("/get_status/", name=workspace)["deployment"]["remarks"] == job["remarks"]
    assert predict(server, workspace, [[2.0, 3.0]])["result"] == [[[2.0, 3.0]]]


@pytest.mark.slow
def test_files_that_are_deleted_while_serving_do_no_harm(server: Server, workspace: str, models: Path) -> None:
    copy = server.roots / "copy"
    shutil.copytree(models / "scale" / "1", copy)
    deploy(server, workspace, copy)
    shutil.rmtree(copy)
    for _ in range(3):
        assert predict(server, workspace)["result"] == [[[1.0, 2.0]]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "words"), [("abort", "SIGABRT"), pytest.param("exit", "code 0", marks=pytest.mark.slow)]
)
def test_a_prediction_that_kills_the_worker_is_lost_after_one_repetition_and_the_model_returns(
    server: Server, workspace: str, models: Path, path: str, words: str
) -> None:
    deploy(server, workspace, models / path)
    pid = deployment(server, workspace)["pid"]
    job = predict(server, workspace, [[1000.0, 0.0]])
    assert (job["state"], job["result"]) == ("lost", None)
    assert words in job["error"]["message"]
    assert server.http.get(f"/jobs/{job['id']}").json()["result"]["attempts"] == 2
    assert predict(server, workspace)["result"] == [[[1.0, 2.0]]]
    assert deployment(server, workspace)["pid"] != pid


def test_a_kind_of_request_that_has_killed_before_is_not_repeated_and_takes_nothing_away_from_others(
    server: Server, workspace: str
) -> None:
    (path := server.roots / f"{workspace}.echo").write_text('{"x": {"dtype": "float32", "shape": null}}')
    deploy(server, workspace, path)
    ended = [ended_by_a_crash(server, workspace, x) for x in ([1], [2], [3], [[4]], [5])]
    assert ended == [("succeeded", 2), ("lost", 1), ("lost", 1), ("succeeded", 2), ("lost", 1)]
    assert server.run(workspace, "x = 1")["state"] == "succeeded"
    assert server.call("/get_status/", name=workspace)["STATUS"] == "IDLE"
    assert predict(server, workspace, [6], "x")["result"] == [[6.0]]


def ended_by_a_crash(server: Server, name: str, x: Any) -> tuple[str, int]:
    """State and attempts of a prediction whose process ends by a signal while it computes.

    Unlike SIGABRT, which leaves other threads time to respond while the stacks are dumped, this one ends all at once.
    """
    predict(server, name, {"b64": ""}, "x")  # returns when there is a process again
    while len(processes := deployment(server, name)["processes"]) > 1:
        pass  # the one that crashed is still ending
    process = psutil.Process(processes[0]["pid"])
    process.suspend()
    job = server.call("/predict/", name=name, fetches="x", feed_dict={"x": x}, timeout=0)
    server.until_predicting(name, 1)  # a process that dies before it has the request is not killed by it
    process.send_signal(signal.SIGVTALRM)
    process.resume()
    ended = server.wait(name, job["job"])
    return ended["state"], ended["attempts"]


@pytest.mark.slow
def test_only_the_prediction_that_kills_is_lost_of_those_that_ran_together(
    server: Server, workspace: str, models: Path
) -> None:
    deploy(server, workspace, models / "abort")
    server.run(workspace, "import time; time.sleep(0.5)", timeout=0)
    values = [[[float(n), 0.0]] if n != 5 else [[1000.0, 0.0]] for n in range(12)]
    for x in values:
        server.call("/predict/", name=workspace, fetches="y", feed_dict={"x": x}, timeout=0)
    server.wait(workspace, 13)
    results = server.call("/get_result/", name=workspace)[2:]
    assert results == [[x] if n != 5 else None for n, x in enumerate(values)]


@pytest.mark.slow
def test_a_prediction_that_loops_is_ended_by_its_time_limit_and_the_model_returns(
    server: Server, workspace: str, models: Path
) -> None:
    deploy(server, workspace, models / "loop")
    job = predict(server, workspace, [[1000.0, 0.0]], time_limit=0.5)
    assert (job["state"], job["result"]) == ("failed", None)
    assert "time limit" in job["error"]["message"]
    assert predict(server, workspace)["result"] == [[[1.0, 2.0]]]


@pytest.mark.slow
def test_a_model_whose_worker_is_killed_while_idle_returns(server: Server, workspace: str, models: Path) -> None:
    deploy(server, workspace, models / "scale")
    process = psutil.Process(deployment(server, workspace)["pid"])
    process.kill()
    process.wait(5)
    assert predict(server, workspace)["result"] == [[[2.0, 4.0]]]


@pytest.mark.slow
def test_a_deployment_returns_after_a_restart_of_the_server(start: Start, models: Path, server: Server) -> None:
    own = start(TFSERVE_ROOTS=str(models))
    own.call("/create_workspace/", name="a")
    deploy(own, "a", models / "scale")
    own.call("/create_workspace/", name="b")
    deploy(own, "b", models / "one")
    own.call("/update/", name="b", path=str(models / "two"), timeout=60)
    for process in own.processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # it ends with the one before
            process.kill()
    own.process.wait(10)
    again = start(TFSERVE_ROOTS=str(models))
    assert predict(again, "a")["result"] == [[[2.0, 4.0]]]
    assert deployment(again, "a")["version"] == 2
    assert again.call("/predict/", name="b", fetches="outputs", feed_dict={"inputs": X}, timeout=60)["result"] == [
        [[50.0]]
    ]


@pytest.mark.slow
def test_no_request_fails_and_each_answer_is_of_one_version_while_the_model_is_updated(
    server: Server, workspace: str, models: Path
) -> None:
    deploy(server, workspace, models / "scale" / "1")
    stop = threading.Event()
    answers: list[Any] = []

    def client() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as http:
            while not stop.is_set():
                fields = {"name": workspace, "fetches": "y", "feed_dict": {"x": X}, "timeout": 60}
                answers.append(http.post("/predict/", json=fields).json()["result"]["result"])

    def updates() -> None:
        try:
            for version in (2, 1):
                job = server.call("/update/", name=workspace, path=str(models / "scale" / str(version)), timeout=60)
                assert job["result"] is True
        finally:
            stop.set()

    works = iter([updates, *[client] * 100])
    in_parallel(lambda: next(works)(), 101)
    assert len(answers) > 100
    assert {str(answer) for answer in answers} == {"[[[1.0, 2.0]]]", "[[[2.0, 4.0]]]"}


@pytest.mark.slow
def test_two_clients_deploying_at_once_have_one_defined_winner(server: Server, workspace: str, models: Path) -> None:
    versions = iter((1, 2))
    jobs: list[Any] = []
    in_parallel(lambda: jobs.append(deploy(server, workspace, models / "scale" / str(next(versions)))), 2)
    assert [job["result"] for job in jobs] == [True, True]
    last = max(jobs, key=lambda job: job["job"])
    assert deployment(server, workspace)["version"] == last["version"]


def test_a_client_that_vanishes_in_the_middle_of_a_deploy_changes_nothing(
    server: Server, workspace: str, models: Path
) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{server.url}/deploy/",
            json={"name": workspace, "path": str(models / "scale"), "timeout": 60},
            timeout=0.05,
        )
    assert predict(server, workspace)["result"] == [[[2.0, 4.0]]]


def test_a_deploy_that_loads_can_be_cancelled(server: Server, workspace: str, models: Path) -> None:
    deploy(server, workspace, models / "scale")
    server.call("/deploy/", name=workspace, path=str(models / "net.keras"), timeout=0)
    answer = server.call("/cancel_job/", name=workspace, job=1)
    assert answer["state"] in ("cancelled", "succeeded")
    assert deployment(server, workspace)["state"] == "active"


def test_undeploy_waits_its_turn_behind_predictions(server: Server, workspace: str, models: Path) -> None:
    deploy(server, workspace, models / "scale")
    for _ in range(50):
        server.call("/predict/", name=workspace, fetches="y", feed_dict={"x": X}, timeout=0)
    assert server.call("/undeploy/", name=workspace, timeout=60)["result"] is True
    results = server.call("/get_result/", name=workspace)
    assert results[1:51] == [[[[2.0, 4.0]]]] * 50


def test_values_of_predictions_are_json_that_every_parser_reads(server: Server, workspace: str, models: Path) -> None:
    deploy(server, workspace, models / "scale")
    started_at = time.monotonic()
    assert predict(server, workspace, [[3e38, 0.0]])["result"] == [[[None, 0.0]]]
    assert time.monotonic() - started_at < 10
