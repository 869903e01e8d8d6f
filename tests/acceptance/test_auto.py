"""The fastest runtime that gives TensorFlow's numbers, found while the model serves."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Server

SWITCHED_WITHIN_S = 300


def deployment(server: Server, name: str) -> Any:
    return server.call("/get_status/", name=name)["deployment"]


def wait_until_chosen(server: Server, name: str, meanwhile: Callable[[], None]) -> Any:
    deadline = time.monotonic() + SWITCHED_WITHIN_S
    while not (found := deployment(server, name)).get("choice", "").endswith("was chosen"):
        assert time.monotonic() < deadline, found
        meanwhile()
        time.sleep(0.02)  # so that there is something left to measure with
    return found


@pytest.mark.timeout(600)
def test_a_model_moves_to_the_fastest_runtime_and_no_prediction_fails(
    start: Callable[..., Server], models: Path
) -> None:
    server = start(TFSERVE_CONVERT="1", TFSERVE_ROOTS=str(models))
    model = str(models / "scale" / "2")
    for name in ("first", "second"):
        server.call("/create_workspace/", name=name)
    server.call("/deploy/", name="first", path=model, timeout=60)
    assert deployment(server, "first")["runtime"] == "tensorflow"
    statuses: list[int] = []

    def predict() -> None:
        answer = server.http.post("/v1/models/first:predict", json={"instances": [[1.0, 2.0]]})
        statuses.append(answer.status_code)
        assert answer.json() == {"predictions": [[2.0, 4.0]]}

    found = wait_until_chosen(server, "first", predict)
    assert set(statuses) == {200}
    assert found["runtime"] in ("openvino", "litert", "onnxruntime")
    trials = {trial["runtime"]: trial for trial in found["trials"]}
    assert trials.keys() == {"tensorflow", "openvino", "litert", "onnxruntime"}
    assert trials[found["runtime"]]["ok"]
    assert trials[found["runtime"]]["best_s"]["1"] < trials["tensorflow"]["best_s"]["1"]
    predict()

    # The same files are known by their bytes: nothing is converted again.
    begun_at = time.monotonic()
    server.call("/deploy/", name="second", path=model, timeout=60)
    again = wait_until_chosen(server, "second", lambda: None)
    assert again["trials"] == found["trials"]
    assert time.monotonic() - begun_at < SWITCHED_WITHIN_S / 2
    (report,) = (server.data_dir / "conversions").glob("*/report.json")
    assert report.stat().st_size
