"""The Python client against a real server, as programs use it: the sync and the async one."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.acceptance.conftest import REPOSITORY, Server
from tests.acceptance.training_calls import digit_project
from tests.protocols.grpc_port import free_port
from tfserve_client import (
    AsyncClient,
    Client,
    Conflict,
    Invalid,
    JobFailed,
    JobTimeout,
    NotFound,
    Retries,
    Unauthenticated,
    Unreachable,
    uploads,
)

STEPS = "for step in range(3):\n    print('step', step, flush=True)\nx = 42"
ENDLESS = "import threading\nprint('begun', flush=True)\nthreading.Event().wait()"


@pytest.fixture(scope="module")
def files(server: Server) -> Path:
    """Small ONNX models and an image, below the roots of the server."""
    folder = server.roots / "small"
    write = [sys.executable, "examples/small_models.py", str(folder), "half.onnx", "brightness.onnx", "photo.png"]
    subprocess.run(write, cwd=REPOSITORY, check=True)
    return folder


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


# --- jobs


def test_output_arrives_while_the_script_runs(client: Client, workspace: str) -> None:
    job = client.push_script(workspace, ENDLESS, timeout=0)
    output = job.output(timeout=60)
    assert next(output) == "begun\n"
    assert client.find_job(job.id).state == "running"
    assert job.cancel() == "cancelled"
    assert list(output) == []
    assert (job.finish, job.wait()) == (True, False)
    with pytest.raises(JobFailed) as failed:
        job.raise_for_error()
    assert failed.value.code == "cancelled"


def test_a_job_that_ends_has_result_output_and_variables(client: Client, workspace: str) -> None:
    job = client.push_script(workspace, STEPS, timeout=0)
    assert "".join(job.output()) == "step 0\nstep 1\nstep 2\n"
    assert (job.state, job.result, job.error) == ("succeeded", True, None)
    assert client.get_variable(workspace, "x") == {"x": 42}
    assert client.read_output(job.id, offset=7).data == b"step 1\nstep 2\n"


def test_a_script_that_raises_does_not_raise_until_asked(client: Client, workspace: str) -> None:
    job = client.push_script(workspace, "1 / 0", timeout=60)
    assert job.wait() is False
    with pytest.raises(JobFailed, match="division by zero") as failed:
        job.raise_for_error()
    assert (failed.value.code, failed.value.type) == ("script_error", "ZeroDivisionError")
    assert "1 / 0" in str(failed.value.traceback)


def test_waiting_ends_at_the_timeout(client: Client, workspace: str) -> None:
    job = client.push_script(workspace, ENDLESS, timeout=0)
    with pytest.raises(JobTimeout):
        job.wait(timeout=0.5)
    job.cancel()


def test_a_request_that_is_sent_twice_is_one_job(client: Client, workspace: str) -> None:
    jobs = [client.push_script(workspace, "x = 1", timeout=60, idempotency_key="once") for _ in range(2)]
    assert jobs[0].id == jobs[1].id
    assert client.push_script(workspace, "x = 1", timeout=60).id != jobs[0].id


def test_output_is_followed_from_beyond_its_end(client: Client, workspace: str) -> None:
    job = client.push_script(workspace, "print('done')", timeout=60)
    assert list(client.follow_output(job.id, offset=2**62, timeout=60)) == []
    assert client.read_output(job.id, offset=2**62).data == b""


# --- errors


def test_errors_have_the_classes_of_the_server(client: Client, workspace: str) -> None:
    with pytest.raises(NotFound, match="There is no workspace 'none'"):
        client.get_status("none")
    with pytest.raises(Conflict):
        client.create_workspace(workspace)
    with pytest.raises(Invalid) as invalid:
        client.push_script(workspace, "x", timeout=-1)
    assert (invalid.value.field, invalid.value.status) == ("timeout", 400)
    with pytest.raises(NotFound, match="There is no model"):
        client.infer("none", {"x": np.zeros(1, np.float32)})
    with pytest.raises(NotFound, match="cannot find task info"):
        client.training("none")


def test_nothing_listens() -> None:
    with Client(f"http://127.0.0.1:{free_port()}", retries=0) as client:
        assert not client.is_ready()
        with pytest.raises(Unreachable, match="No response from http"):
            client.get_workspace()


def test_requests_wait_for_a_server_that_starts(server: Server) -> None:
    """The first attempts find a closed port, which begins to forward to the server after one of them."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))  # does not listen yet, so connections are refused
    client = Client(f"http://127.0.0.1:{listener.getsockname()[1]}", retries=Retries(connecting=8, first_s=0.05))
    attempted = threading.Event()
    client._http.event_hooks["request"] = [lambda _: attempted.set()]

    def respond() -> None:
        attempted.wait(30)
        listener.listen()
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]")

    thread = threading.Thread(target=respond)
    thread.start()
    with client, listener:
        assert client.get_workspace() == []
        thread.join(30)


# --- models and files


def test_predictions_are_recorded_and_their_results_are_fetched_later(
    client: Client, workspace: str, files: Path, tmp_path: Path
) -> None:
    client.deploy(workspace, str(files / "half.onnx"), timeout=60).raise_for_error()
    arrays = client.infer_later(workspace, {"x": [[1, 2]]})
    rows = client.predict_rows_later(workspace, [[1.0, 2.0]], idempotency_key="once")
    assert client.predict_rows_later(workspace, [[1.0, 2.0]], idempotency_key="once") == rows
    np.testing.assert_array_equal(client.later_outputs(arrays, 60)["y"], np.array([[2.5, 3.0]], np.float32))
    assert client.later_result(rows, 60.5) == {"predictions": [[2.5, 3.0]]}
    assert client.job(rows, wait=0.5)["state"] == "succeeded"
    bad = client.predict_rows_later(workspace, [["no"]])
    with pytest.raises(Invalid):
        client.later_result(bad, 60)
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n3,4\n")
    batch = client.start_batch(workspace, client.upload(tmp_path / "rows.csv"), output="csv")
    assert client.wait_for_batch(batch["id"], 60)["done"] == 2
    assert client.download_batch_output(batch["id"], tmp_path / "out.csv") == (tmp_path / "out.csv").stat().st_size
    assert (tmp_path / "out.csv").read_bytes() == client.read_batch_output(batch["id"]).data
    assert client.cancel_job_by_id(batch["id"]) == "succeeded"


def test_predictions_with_arrays_rows_and_images(client: Client, workspace: str, files: Path) -> None:
    deployed = client.deploy(workspace, str(files / "half.onnx"), timeout=60)
    assert (deployed.state, deployed.details["version"]) == ("succeeded", 1)
    expected = np.array([[2.5, 3.0]], np.float32)
    for x in (np.array([[1, 2]], np.float32), np.array([[1.0, 2.0]]), [[1, 2]]):
        found = client.infer(workspace, {"x": x}, outputs=["y"])["y"]
        np.testing.assert_array_equal(found, expected, strict=True)
    assert client.predict_rows(workspace, [[1.0, 2.0]]) == [[2.5, 3.0]]
    assert client.predict(workspace, "y", {"x": np.array([[1.0, 2.0]])}, timeout=60).result == [[[2.5, 3.0]]]
    with pytest.raises(Invalid, match="UINT8"):
        client.infer(workspace, {"x": np.array([[1, 2]], np.uint8)})
    client.deploy(workspace, str(files / "brightness.onnx"), timeout=60)
    with Image.open(files / "photo.png") as image:
        image = image.convert("RGB")
        forms = [files / "photo.png", (files / "photo.png").read_bytes(), image, np.asarray(image)]
    assert [each["label"] for each in client.predict_images(workspace, forms, top=1)] == ["light"] * 4
    assert [each["name"] for each in client.models() if each["name"] == workspace] == [workspace]


def test_an_upload_reports_its_progress_and_resumes(
    client: Client, workspace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PIECE_BYTES", 100)
    file = tmp_path / "job.py"
    file.write_text("x = 'uploaded'\n" + "#" * 300)
    seen: list[int] = []

    def interrupt(arrived: int, _: int) -> None:
        seen.append(arrived)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.upload(file, progress=interrupt)
    unfinished = client.list_uploads()["uploads"][-1]
    assert (unfinished["state"], unfinished["offset"]) == ("receiving", 200)
    path = client.upload(file, resume=unfinished["id"], progress=lambda arrived, size: seen.append(arrived))
    assert seen == [100, 200, 300, 315]
    assert client.push_file(workspace, path, timeout=60).variable["x"] == "uploaded"
    file.write_text("other")
    with pytest.raises(Invalid, match="is of another file"):
        client.upload(file, resume=unfinished["id"])


def test_files_of_a_workspace(client: Client, workspace: str, tmp_path: Path) -> None:
    assert client.put_file(workspace, "data/ü 1.bin", b"abc")["size"] == 3
    assert [each["name"] for each in client.list_files(workspace, "data")["entries"]] == ["ü 1.bin"]
    assert client.download_file(workspace, "data/ü 1.bin", tmp_path / "copy") == 3
    client.put_file(workspace, "again", tmp_path / "copy")
    assert client.get_file(workspace, "again") == b"abc"
    with pytest.raises(NotFound):
        client.download_file(workspace, "none", tmp_path / "none")
    for path in ("data", "data/.."):
        with pytest.raises(Invalid, match=r"is a folder|contains '\.\.'|contains '\.' or"):
            client.download_file(workspace, path, tmp_path / "none")
    assert [each.name for each in tmp_path.iterdir()] == ["copy"]
    assert client.delete_file(workspace, "data", recursive=True)


# --- trainings and tokens


def test_a_training_is_followed_and_cancelled(client: Client, server: Server) -> None:
    project = digit_project(server.roots / "digits-of-the-client", per_class=6)
    with pytest.raises(Invalid, match="trainType"):
        client.train(str(project), "dreaming")
    task = client.train(str(project), parameters={"exports": "saved_model", "backbone": "compact"})
    followed = client.follow_training(task["taskId"], timeout=120)
    assert next(followed)["state"] in ("pending", "processing")
    assert client.cancel_training(task["taskId"])["state"] == "cancelled"
    assert [*followed][-1]["state"] == "cancelled"
    assert client.trainings(project_id=project.name)[1] == 1


def test_address_and_token_come_from_the_environment(
    start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = start()
    with Client(guarded.url) as admin:
        token = admin.create_token("first", ["admin"])["token"]
        with pytest.raises(Unauthenticated, match="token"):
            admin.list_tokens()
    monkeypatch.setenv("TFSERVE_URL", guarded.url)
    monkeypatch.setenv("TFSERVE_TOKEN", token)
    with Client() as client:
        assert [each["name"] for each in client.list_tokens()] == ["first"]
        assert client.revoke_token("first")["name"] == "first"


# --- the async client


def test_the_async_client_does_the_same(server: Server, workspace: str, files: Path, tmp_path: Path) -> None:
    async def use() -> None:
        async with AsyncClient(server.url) as client:
            job = await client.push_script(workspace, STEPS, timeout=0)
            assert "".join([text async for text in job.output()]) == "step 0\nstep 1\nstep 2\n"
            assert await job.wait() is True
            path = await client.upload(files)
            deployed = await client.deploy(workspace, f"{path}/half.onnx", timeout=60)
            deployed.raise_for_error()
            inputs = [{"x": np.array([[n, 2]], np.float32)} for n in range(4)]
            outputs = await asyncio.gather(*(client.infer(workspace, each) for each in inputs))
            assert [each["y"][0, 0] for each in outputs] == [2.0, 2.5, 3.0, 3.5]
            await client.put_file(workspace, "copy", files / "half.onnx")
            size = await client.download_file(workspace, "copy", tmp_path / "copy")
            assert (tmp_path / "copy").read_bytes() == (files / "half.onnx").read_bytes()
            assert size == (tmp_path / "copy").stat().st_size
            endless = await client.push_script(workspace, ENDLESS, timeout=0)
            async for text in endless.output():
                assert text == "begun\n"
                assert await endless.cancel() == "cancelled"
            with pytest.raises(NotFound):
                await client.get_status("none")

    asyncio.run(use())
