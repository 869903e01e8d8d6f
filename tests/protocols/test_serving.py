"""The way of a prediction on a whole server: replicas, deaths, updates under load, limits, files, a faster runtime."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from tests.acceptance.conftest import Server, command
from tests.unit.image_models import litert_copy, png

Start = Callable[..., Server]

DEADLINE_S = 120
CONVERSION_DEADLINE_S = 300
"""Three conversions and their trials while clients load the server, on a machine where other tests run."""


def deploy(server: Server, name: str, path: Path | str, **fields: Any) -> Any:
    job = server.call("/deploy/", name=name, path=str(path), timeout=60, **fields)
    assert job["result"] is True, job
    return job


def deployment(server: Server, name: str) -> Any:
    return server.call("/get_status/", name=name)["deployment"]


def until(condition: Callable[[], Any], *, within_s: float = DEADLINE_S) -> Any:
    """What the condition gives once it is true."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if value := condition():
            return value
    raise AssertionError("it never came true")


def ask(server: Server, name: str, x: list[list[float]], **fields: Any) -> httpx.Response:
    return server.http.post(f"/v1/models/{name}:predict", json={"instances": x}, **fields)


class Load:
    """Clients that predict with numbers of their own and check each answer against them."""

    def __init__(self, server: Server, name: str, factors: set[float], clients: int = 12) -> None:
        self.answered = 0
        self.wrong: list[Any] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(server, name, factors, n)) for n in range(clients)]

    def _run(self, server: Server, name: str, factors: set[float], client: int) -> None:
        with httpx.Client(base_url=server.url, timeout=60) as http:
            number = 0
            while not self._stop.is_set():
                x = [[client, number % 100], [number % 7, client]]
                answer = http.post(f"/v1/models/{name}:predict", json={"instances": x})
                expected = [[[factor * each for each in row] for row in x] for factor in factors]
                if answer.status_code != 200 or answer.json()["predictions"] not in expected:
                    self.wrong.append((answer.status_code, answer.text, x))
                self.answered += 1
                number += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()


@pytest.mark.slow
def test_updates_under_load_fail_no_request_and_each_answer_is_of_one_version(
    server: Server, workspace: str, models: Path
) -> None:
    deploy(server, workspace, models / "scale" / "1")
    load = Load(server, workspace, {1.0, 2.0})
    with load.running():
        for version in (2, 1, 2):
            job = server.call("/update/", name=workspace, path=str(models / "scale" / str(version)), timeout=60)
            assert job["result"] is True
    assert load.wrong == []
    assert load.answered > 100
    assert ask(server, workspace, [[1, 2]]).json() == {"predictions": [[2.0, 4.0]]}
    assert server.http.get(f"/v1/models/{workspace}").json()["model_version_status"][0]["version"] == "2"


@pytest.mark.slow
def test_replicas_come_and_go_under_load(server: Server, workspace: str, models: Path) -> None:
    deploy(server, workspace, models / "scale" / "1", replicas=2)
    assert len(deployment(server, workspace)["replicas"]) == 2
    load = Load(server, workspace, {1.0})
    with load.running():
        for count in (1, 3, 2):
            assert server.call("/scale/", name=workspace, replicas=count) is True
            assert len(deployment(server, workspace)["replicas"]) == count
    assert load.wrong == []


def test_a_replica_that_dies_loses_only_what_it_held_and_returns(server: Server, workspace: str, models: Path) -> None:
    deploy(server, workspace, models / "scale" / "1", replicas=2)
    first, second = deployment(server, workspace)["replicas"]
    load = Load(server, workspace, {1.0})
    with load.running():
        before = load.answered
        until(lambda: load.answered > before + 50)
        os.kill(first, signal.SIGKILL)
        until(lambda: len(deployment(server, workspace)["replicas"]) == 2)
    assert second in deployment(server, workspace)["replicas"]
    assert first not in deployment(server, workspace)["replicas"]
    assert len(load.wrong) <= 12, "at most what each client had sent to it"
    assert all(status == 503 and "SIGKILL" in text for status, text, _ in load.wrong), load.wrong


@pytest.mark.slow
@pytest.mark.parametrize("model", ["abort", "exit"])
def test_a_prediction_that_kills_its_worker_is_reported_the_cause(
    server: Server, workspace: str, models: Path, model: str
) -> None:
    deploy(server, workspace, models / model)
    answer = ask(server, workspace, [[1000.0, 1.0]])
    assert answer.status_code == 503
    assert "worker died" in answer.json()["error"]
    assert ("SIGABRT" if model == "abort" else "exit") in answer.json()["error"]
    until(lambda: ask(server, workspace, [[1.0, 2.0]]).status_code == 200)


@pytest.mark.slow
def test_a_prediction_that_never_ends_is_given_up_and_so_is_its_worker(start: Start, models: Path) -> None:
    server = start("--predict-timeout-s", "3", TFSERVE_ROOTS=str(models))
    server.call("/create_workspace/", name="w")
    deploy(server, "w", models / "loop")
    pid = deployment(server, "w")["pid"]
    answer = ask(server, "w", [[1000.0, 1.0]], headers={"Request-Timeout": "0.5"})
    assert answer.status_code == 504
    assert "0.5 s" in answer.json()["error"]
    until(lambda: not psutil.pid_exists(pid))
    until(lambda: ask(server, "w", [[1.0, 2.0]]).status_code == 200)


@pytest.mark.slow
def test_beyond_the_limit_a_prediction_is_refused_with_the_time_to_try_again(start: Start, models: Path) -> None:
    server = start("--max-predictions", "1", "--predict-timeout-s", "5", TFSERVE_ROOTS=str(models))
    server.call("/create_workspace/", name="w")
    deploy(server, "w", models / "loop")
    statuses: list[int] = []
    asking = threading.Thread(target=lambda: statuses.append(ask(server, "w", [[1000.0, 1.0]]).status_code))
    asking.start()
    with httpx.Client(base_url=server.url, timeout=30) as http:
        body = {"instances": [[1.0, 2.0]]}
        refused = until(lambda: (a := http.post("/v1/models/w:predict", json=body)).status_code == 503 and a)
        assert refused.headers["retry-after"]
        assert "1 predictions" in refused.json()["error"]
    asking.join()
    assert statuses[0] in (503, 504)


def test_an_undeployed_model_is_gone_for_web_too(server: Server, workspace: str, models: Path) -> None:
    deploy(server, workspace, models / "scale" / "1")
    assert ask(server, workspace, [[1.0, 2.0]]).status_code == 200
    server.call("/undeploy/", name=workspace, timeout=60)
    assert ask(server, workspace, [[1.0, 2.0]]).status_code == 404
    deploy(server, workspace, models / "scale" / "2")
    assert ask(server, workspace, [[1.0, 2.0]]).json() == {"predictions": [[2.0, 4.0]]}


def test_models_are_there_again_after_the_web_process_died(start: Start, models: Path) -> None:
    server = start(TFSERVE_ROOTS=str(models))
    server.call("/create_workspace/", name="w")
    deploy(server, "w", models / "scale" / "1")
    (web,) = [process for process in server.processes() if "tfserve.web.app" in command(process)]
    web.kill()
    with httpx.Client(base_url=server.url, timeout=60) as http:
        answer = http.post("/v1/models/w:predict", json={"instances": [[1.0, 2.0]]})
    assert answer.json() == {"predictions": [[1.0, 2.0]]}


# --- files


@pytest.fixture(scope="module")
def pictures(server: Server, models: Path) -> Iterator[str]:
    """A model of 4x4 grey images that tells whether they are dark or light."""
    name = server.call("/create_workspace/", name="pictures")
    image = {"height": 4, "width": 4, "channels": 1, "scale": 1 / 255, "labels": ["dark", "light"]}
    deploy(server, name, models / "pictures", image=image | {"display": ["暗い", "Größe"]})
    yield name
    server.call("/destroy_workspace/", name=name)


def picture(grey: int, form: str, size: tuple[int, int] = (4, 4)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), grey, np.uint8)).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_a_file_is_the_body_of_a_prediction(server: Server, pictures: str, form: str) -> None:
    path = f"/v1/models/{pictures}:predict"
    for grey, label in ((10, "dark"), (240, "light")):
        content = picture(grey, form, (9, 7))
        answer = server.http.post(path, content=content, headers={"content-type": f"image/{form.lower()}"})
        (found,) = answer.json()["predictions"]
        assert found["label"] == label
        assert found["score"] > 0.8
        assert found["display"] == {"dark": "暗い", "light": "Größe"}[label]
        assert {each["label"]: each["display"] for each in found["top"]} == {"dark": "暗い", "light": "Größe"}
        assert [each["label"] for each in found["top"]] == sorted(("dark", "light"), key=lambda each: each != label)


def test_files_come_as_a_form_or_as_base64_too(server: Server, pictures: str) -> None:
    path = f"/v1/models/{pictures}:predict"
    files = [picture(10, "PNG"), picture(240, "JPEG", (30, 20))]
    form = server.http.post(path, files=[("file", ("a.png", files[0])), ("file", ("b.jpg", files[1]))])
    rows = [{"b64": base64.b64encode(file).decode()} for file in files]
    as_json = server.http.post(path, json={"instances": rows})
    assert [each["label"] for each in form.json()["predictions"]] == ["dark", "light"]
    assert form.json() == as_json.json()
    one = server.http.post(f"{path}?top=1", json={"instances": rows[:1]}).json()["predictions"][0]
    assert one["top"] == [{"label": "dark", "display": "暗い", "score": one["score"]}]


@pytest.mark.parametrize("content", [b"rubbish", b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_a_file_that_is_no_image_is_reported_so(server: Server, pictures: str, content: bytes) -> None:
    answer = server.http.post(f"/v1/models/{pictures}:predict", content=content, headers={"content-type": "image/png"})
    assert answer.status_code == 400
    assert "image" in answer.json()["error"].lower()


def test_a_form_that_was_cut_off_is_reported_so(server: Server, pictures: str) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    for content in (head, head + picture(10, "PNG") + b"\r\n--x\r\n", head + picture(10, "PNG")[:20]):
        answer = server.http.post(
            f"/v1/models/{pictures}:predict",
            content=content,
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
        assert answer.status_code == 400
        assert "cut off" in answer.json()["error"]


def test_one_file_that_is_no_image_does_not_disturb_others(server: Server, pictures: str) -> None:
    statuses: list[int] = []

    def send(content: bytes) -> None:
        with httpx.Client(base_url=server.url, timeout=60) as http:
            answer = http.post(f"/v1/models/{pictures}:predict", content=content, headers={"content-type": "image/png"})
            statuses.append(answer.status_code)

    threads = [threading.Thread(target=send, args=(b"x" if n == 3 else picture(n, "PNG"),)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 15 + [400]


def test_files_of_many_clients_share_batches_and_each_gets_its_own_answer(server: Server, pictures: str) -> None:
    """Some leave while their files are being decoded; nobody else notices."""
    path, header = f"/v1/models/{pictures}:predict", {"content-type": "image/png"}
    files = [picture(0 if n % 2 else 255, "PNG", (300 + n, 200)) for n in range(60)]

    async def send(http: httpx.AsyncClient, n: int) -> str | None:
        try:
            answer = await http.post(path, content=files[n], headers=header, timeout=0.001 if n % 10 == 9 else 60)
        except httpx.TimeoutException:
            return None
        return str(answer.json()["predictions"][0]["label"])

    async def send_all() -> list[str | None]:
        limits = httpx.Limits(max_connections=60)
        async with httpx.AsyncClient(base_url=server.url, limits=limits) as http:
            return await asyncio.gather(*(send(http, n) for n in range(60)))

    before = server.http.get(f"/v2/models/{pictures}/stats").json()["model_stats"][0]
    labels = asyncio.run(send_all())
    after = server.http.get(f"/v2/models/{pictures}/stats").json()["model_stats"][0]
    assert [label for n, label in enumerate(labels) if n % 10 != 9] == [
        "dark" if n % 2 else "light" for n in range(60) if n % 10 != 9
    ]
    requests = after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"]
    assert after["execution_count"] - before["execution_count"] < requests


@pytest.mark.slow
def test_a_runtime_that_is_requested_takes_files_as_given_or_described_beside_the_model(
    server: Server, workspace: str, models: Path
) -> None:
    path, header = f"/v1/models/{workspace}:predict", {"content-type": "image/png"}
    image = {"height": 4, "width": 4, "channels": 1, "scale": 1 / 255, "labels": ["dark", "light"]}
    described = Path(shutil.copytree(models / "pictures", server.roots / "described"))
    (described / "assets.extra").mkdir()
    (described / "assets.extra" / "image.json").write_text(json.dumps(image))
    for folder, fields in ((models / "pictures", {"image": image}), (described, {})):
        deploy(server, workspace, folder, runtime="openvino", **fields)
        told = deployment(server, workspace)
        assert (told["runtime"], told["choice"]) == ("openvino", "openvino was requested")
        assert "image_bytes" in told["served"]
        answer = server.http.post(path, content=picture(240, "PNG", (9, 7)), headers=header)
        assert answer.json()["predictions"][0]["label"] == "light"


def test_a_model_of_numbers_takes_no_files(server: Server, workspace: str, models: Path) -> None:
    deploy(server, workspace, models / "scale")
    answer = server.http.post(
        f"/v1/models/{workspace}:predict", content=picture(1, "PNG"), headers={"content-type": "image/png"}
    )
    assert answer.status_code == 400
    assert "image" in answer.json()["error"]


def test_a_quantized_model_takes_files_and_shows_what_its_integers_stand_for(
    server: Server, workspace: str, models: Path
) -> None:
    path = litert_copy(models / "q.tflite", shape=[1, 2, 1, 1], dtype="int8", quantization=([1 / 255], [-128]))
    deploy(server, workspace, path, image={"labels": ["above", "below"]})
    for pixels, label in (([[51], [0]], "above"), ([[0], [51]], "below")):
        answer = server.http.post(
            f"/v1/models/{workspace}:predict", content=png(pixels), headers={"content-type": "image/png"}
        )
        (found,) = answer.json()["predictions"]
        assert (found["label"], found["score"]) == (label, pytest.approx(0.2, abs=1e-3))
    # As numbers the model takes and gives its integers.
    answer = server.http.post(f"/v1/models/{workspace}:predict", json={"instances": [[[[5]], [[-7]]]]})
    assert answer.json() == {"predictions": [[5, -7]]}

    expected = {"scale": pytest.approx(1 / 255), "zero_point": -128}
    v1 = server.http.get(f"/v1/models/{workspace}/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert v1["serving_default"]["inputs"]["image"]["quantization"] == expected
    v2 = server.http.get(f"/v2/models/{workspace}").json()
    assert v2["parameters"]["quantization"] == {"image": expected, "scores": expected}
    config = server.http.get(f"/v2/models/{workspace}/config").json()["parameters"]
    assert json.loads(config["quantization"]["string_value"]) == v2["parameters"]["quantization"]
    signature = deployment(server, workspace)["signatures"]["serving_default"]
    assert signature["outputs"][0]["quantization"] == expected
    assert "scale 0.00392157, zero point -128" in server.http.get(f"/pages/models/{workspace}/").text


@pytest.mark.slow
def test_a_description_of_images_that_does_not_fit_is_refused(server: Server, workspace: str, models: Path) -> None:
    for image in ({"height": 5, "width": 4, "channels": 1}, {"channels": 2}, {"hight": 4}):
        job = server.call("/deploy/", name=workspace, path=str(models / "pictures"), timeout=60, image=image)
        assert job["result"] is False
        assert "image" in job["error"]["message"]


# --- a faster runtime


@pytest.mark.slow
def test_a_model_moves_to_the_fastest_runtime_that_agrees_and_back_for_what_only_tensorflow_knows(
    start: Start, models: Path
) -> None:
    server = start(TFSERVE_CONVERT="1", TFSERVE_ROOTS=str(models))
    server.call("/create_workspace/", name="w")
    deploy(server, "w", models / "deep")
    load = Load(server, "w", {2.0}, clients=2)
    with load.running():
        told = until(
            lambda: "was chosen" in (d := deployment(server, "w"))["choice"] and d, within_s=CONVERSION_DEADLINE_S
        )
    assert load.wrong == [], "no request was dropped on the way"
    assert told["runtime"] in ("openvino", "litert", "onnxruntime"), told
    assert {trial["runtime"] for trial in told["trials"]} == {"tensorflow", "openvino", "litert", "onnxruntime"}
    assert told["served"] == ["serving_default"]
    agreeing = {trial["runtime"] for trial in told["trials"] if trial["ok"]}
    assert {"tensorflow", told["runtime"]} <= agreeing
    assert [each["runtime"] for each in server.http.get("/v1/models").json()["models"]] == [told["runtime"]]
    job = server.call("/predict/", name="w", fetches=["y", "Variable"], feed_dict={"x": [[1, 2]]}, timeout=60)
    assert (job["state"], job["result"]) != ("lost", None)
    inner = server.call("/predict/", name="w", fetches="serving_default_x:0", feed_dict={"x": [[1, 2]]}, timeout=60)
    assert inner["result"] == [[[1.0, 2.0]]], f"TensorFlow came back for a tensor inside: {inner}"
    server.call("/create_workspace/", name="again")
    deploy(server, "again", models / "deep")
    known = until(lambda: "was chosen" in (d := deployment(server, "again"))["choice"] and d)
    assert known["runtime"] == told["runtime"], "what was found out is kept by the model's content"
    server.call("/undeploy/", name="w", timeout=60)
    assert server.http.post("/v1/models/w:predict", json={"instances": [[1, 2]]}).status_code == 404


HOSTILE = ([[-1, 3]], [[100, 3]], [[2**31 - 1, 0]], [[5, -(2**31)]])


@pytest.mark.slow
def test_what_a_converted_model_must_not_answer_is_answered_by_tensorflow_over_every_path(
    server: Server, models: Path
) -> None:
    """A table of 100 numbers: a conversion reads beyond its end or clamps, TensorFlow refuses."""
    for name, runtime in (("fast", "openvino"), ("plain", "tensorflow")):
        server.call("/create_workspace/", name=name)
        deploy(server, name, models / "table", runtime=runtime)
    with ThreadPoolExecutor(8) as threads:
        good = [threads.submit(ask, server, "fast", [[n, 99 - n]]) for n in range(40)]
        bad = [threads.submit(ask, server, "fast", ids) for ids in HOSTILE]
    assert [each.result().json()["predictions"] for each in good] == [[[2.0 * n, 2.0 * (99 - n)]] for n in range(40)]
    assert [each.result().status_code for each in bad] == [400] * len(HOSTILE)
    for ids in HOSTILE:
        assert ask(server, "fast", ids).json() == ask(server, "plain", ids).json()
        values = {"name": "at", "shape": [1, 2], "datatype": "INT32", "data": ids}
        fast, plain = (
            server.http.post(f"/v2/models/{each}/infer", json={"inputs": [values]}) for each in ("fast", "plain")
        )
        assert (fast.status_code, fast.json()) == (plain.status_code, plain.json())
        jobs = [
            server.call("/predict/", name=each, fetches="y", feed_dict={"at": ids}, timeout=60)
            for each in ("fast", "plain")
        ]
        assert jobs[0]["error"]["message"] == jobs[1]["error"]["message"]
    assert deployment(server, "fast")["runtime"] == "openvino"


@pytest.mark.slow
def test_a_model_that_only_real_requests_can_compare_is_compared_once_there_are_enough(
    server: Server, models: Path
) -> None:
    server.call("/create_workspace/", name="open")
    job = server.call("/deploy/", name="open", path=str(models / "open"), runtime="openvino", timeout=60)
    assert job["remarks"][0].startswith("not compared yet"), job
    for n in range(1, 9):
        assert deployment(server, "open")["remarks"], "not before there are 8"
        assert ask(server, "open", [[1.0] * n]).json() == {"predictions": [float(n)]}
    told = until(lambda: (d := deployment(server, "open"))["remarks"] == [] and "was chosen" in d["choice"] and d)
    assert told["runtime"] == "openvino"
    assert ask(server, "open", [[1.0, 2.0]]).json() == {"predictions": [3.0]}
    nan = server.http.post("/v1/models/open:predict", content=b'{"instances": [[NaN, 1.0]]}')
    assert "NaN" in nan.text


@pytest.mark.slow
def test_an_undeploy_ends_a_conversion_under_way(start: Start, models: Path) -> None:
    server = start(TFSERVE_CONVERT="1", TFSERVE_ROOTS=str(models))
    server.call("/create_workspace/", name="w")
    deploy(server, "w", models / "scale" / "2")
    until(lambda: deployment(server, "w")["choice"].startswith("trying"))
    server.call("/undeploy/", name="w", timeout=60)
    until(lambda: not [each for each in server.processes() if "tfserve.worker" in command(each)])


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["openvino", "litert", "onnxruntime"])
def test_a_runtime_that_is_requested_serves(server: Server, workspace: str, models: Path, runtime: str) -> None:
    deploy(server, workspace, models / "scale" / "2", runtime=runtime)
    assert deployment(server, workspace)["runtime"] == runtime
    assert ask(server, workspace, [[1.0, 2.0], [3.0, 4.0]]).json() == {"predictions": [[2.0, 4.0], [6.0, 8.0]]}
    job = server.call("/predict/", name=workspace, fetches="y", feed_dict={"x": [[1, 2]]}, timeout=60)
    assert job["result"] == [[[2.0, 4.0]]]


# --- several changes at once


@pytest.fixture
def patient(server: Server, workspace: str) -> str:
    """A model of two processes that holds each request for a while, as a slow one would."""
    path = server.roots / "slow.echo"
    path.write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')
    deploy(server, workspace, path, replicas=2, max_delay=3, max_batch_size=8)
    return workspace


class Held:
    """Requests under way, each in a thread of its own."""

    def __init__(self, server: Server, name: str, count: int) -> None:
        self.answers: list[tuple[int, str]] = []
        self._threads = [threading.Thread(target=self._ask, args=(server, name, n)) for n in range(count)]
        for thread in self._threads:
            thread.start()
        metric = f'tfserve_model_requests_in_flight{{model="{name}"'
        until(lambda: f"{count}.0" in _line(server.http.get("/metrics").text, metric))

    def _ask(self, server: Server, name: str, n: int) -> None:
        answer = httpx.post(f"{server.url}/v1/models/{name}:predict", json={"instances": [[n, n]]}, timeout=60)
        self.answers.append((answer.status_code, answer.text))

    def all_answered(self) -> bool:
        for thread in self._threads:
            thread.join()
        return [status for status, _ in self.answers] == [200] * len(self._threads)


def _line(text: str, beginning: str) -> str:
    return next((line for line in text.splitlines() if line.startswith(beginning)), "")


@pytest.mark.parametrize("later", ["/update/", "/undeploy/"])
def test_a_change_while_an_earlier_one_still_drains_loses_nothing(server: Server, patient: str, later: str) -> None:
    held = Held(server, patient, 4)
    path = str(server.roots / "slow.echo")
    assert server.call("/scale/", name=patient, replicas=1) is True
    assert server.call("/update/", name=patient, path=path, timeout=60)["result"] is True
    assert server.call(later, name=patient, timeout=60, **({"path": path} if later == "/update/" else {}))["result"]
    assert held.all_answered(), held.answers
    deployed = deployment(server, patient)
    if later == "/undeploy/":
        assert deployed is None
        assert ask(server, patient, [[1.0, 2.0]]).status_code == 404
    else:
        assert (deployed["version"], len(deployed["replicas"])) == (3, 1), "an update keeps the number of processes"


def test_what_comes_last_wins_between_scaling_and_destroying(server: Server, patient: str) -> None:
    pids = deployment(server, patient)["replicas"]
    held = Held(server, patient, 2)
    scaling = threading.Thread(
        target=lambda: httpx.post(f"{server.url}/scale/", json={"name": patient, "replicas": 1}, timeout=60)
    )
    scaling.start()
    assert server.call("/destroy_workspace/", name=patient) is True
    scaling.join()
    assert held.all_answered(), held.answers
    assert server.http.get(f"/v1/models/{patient}").status_code == 404
    assert not any(psutil.pid_exists(pid) for pid in pids)
    server.call("/create_workspace/", name=patient)
