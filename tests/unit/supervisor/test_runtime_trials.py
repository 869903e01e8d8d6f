"""Faster runtimes: found by trials, moved to without a gap, given up, and TensorFlow next to them when it is needed."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from supervised import DEADLINE_S, Start, Supervised, failure, is_running, until
from trial_worker import written_saved_model

from tfserve.supervisor.processes import restarts
from tfserve.web.predictions.request import PredictionRequest, PredictionResult

pytestmark = pytest.mark.slow

PROGRAM = (str(Path(__file__).with_name("trial_worker.py")),)
SLOW = {"best_s": {"1": 1.0}}
FAST = {"best_s": {"1": 0.1}}
FASTER = {"best_s": {"1": 0.01}}
DISAGREES = {"ok": False, "reason": "its outputs differ"}

Begin = Callable[..., contextlib.AbstractAsyncContextManager[Supervised]]


@pytest.fixture
def begin(start: Start, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """The supervisor, with workers for which no runtime has to be installed."""
    monkeypatch.setattr(restarts, "FIRST_DELAY_S", 0.01)
    return lambda **settings: start(program=PROGRAM, **settings)


def model(folder: Path, **trials: dict[str, Any]) -> Path:
    others = dict.fromkeys(("openvino", "litert", "onnxruntime"), DISAGREES)
    return written_saved_model(folder / "m", {"tensorflow": SLOW, **others, **trials})


async def until_chosen(server: Supervised, text: str) -> dict[str, Any]:
    """The deployment when its choice is this."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = await server.deployment()
            if text in found["choice"]:
                return found
            await asyncio.sleep(0.005)


async def predict_other(server: Supervised) -> PredictionResult:
    """A prediction that only TensorFlow can compute."""
    request = PredictionRequest({"x": np.array([[1, 2]], np.float32)}, signature="other")
    return await server.web.models.get("w").predict(request)


# --- a faster runtime


async def test_the_fastest_runtime_that_agrees_takes_over_without_a_gap(begin: Begin, tmp_path: Path) -> None:
    async with begin() as server:
        await server.create()
        path = model(tmp_path, openvino=FAST, litert=FASTER, onnxruntime={"dies": True})
        assert (await server.deploy(path, replicas=2)).state == "succeeded"
        before = await server.deployment()
        found = await until_chosen(server, "was chosen")
        assert found["served"] == ["serving_default"]
        assert found["version"] == before["version"]
        assert not {*before["replicas"]} & {*found["replicas"]}
        assert len(found["replicas"]) == 2
        reasons = {each["runtime"]: each.get("reason") for each in found["trials"]}
        assert "its process died: it was killed by SIGKILL" in reasons["onnxruntime"]
        assert (await server.web.predict("w", 1, 2)).outputs["x"].tolist() == [[1, 2]]
        await until(lambda: not any(map(is_running, before["replicas"])))
        folder = server.settings.data_path / "conversions" / "m"
        await until(
            lambda: sorted(each.name for each in folder.iterdir()) == ["litert.echo", "report.json", "served.json"]
        )


async def test_a_runtime_whose_measurement_was_disturbed_is_timed_again(begin: Begin, tmp_path: Path) -> None:
    async with begin() as server:
        await server.create()
        disturbed = {"best_s": {"1": 0.15}, "again_s": 0.08}
        await server.deploy(
            model(tmp_path, openvino=disturbed, litert=FAST, onnxruntime={"best_s": {"1": 0.3}, "again_s": 0.01})
        )
        found = await until_chosen(server, "was chosen")
        times = {each["runtime"]: each.get("best_s") for each in found["trials"]}
        assert (times["openvino"], times["litert"]) == ({"1": 0.08}, FAST["best_s"])
        assert times["onnxruntime"] == {"1": 0.3}, "it was too far behind"
        assert (server.settings.data_path / "conversions" / "m" / "openvino.echo").exists()


async def test_a_report_is_used_again_after_a_restart_without_another_trial(begin: Begin, tmp_path: Path) -> None:
    path = model(tmp_path, openvino=FAST)
    async with begin() as server:
        await server.create()
        await server.deploy(path)
        await until_chosen(server, "was chosen")
    (path / "trials.json").unlink()
    async with begin() as server:
        await server.until_deployed()
        found = await until_chosen(server, "was chosen")
        assert found["served"] == ["serving_default"]


async def test_tensorflow_continues_where_nothing_is_clearly_faster(begin: Begin, tmp_path: Path) -> None:
    async with begin() as server:
        await server.create()
        await server.deploy(model(tmp_path, litert={"best_s": {"1": 0.99}}))
        before = (await server.deployment())["replicas"]
        found = await until_chosen(server, "was chosen")
        assert found["replicas"] == before
        assert found["served"] == ["serving_default", "other"]


async def test_without_a_trial_of_tensorflow_no_other_is_tried(begin: Begin, tmp_path: Path) -> None:
    async with begin() as server:
        await server.create()
        await server.deploy(model(tmp_path, tensorflow={"dies": True}, openvino=FAST))
        found = await until_chosen(server, "was chosen")
        assert [each["runtime"] for each in found["trials"]] == ["tensorflow"]
        assert not (server.settings.data_path / "conversions" / "m").exists()


async def test_a_trial_that_takes_too_long_is_given_up(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfserve.supervisor.models.runtime_trials.TRIAL_S", 0.0)
    async with begin() as server:
        await server.create()
        await server.deploy(model(tmp_path))
        found = await until_chosen(server, "was chosen")
        assert [each["reason"] for each in found["trials"]] == ["it took longer than 0 s"]


async def test_a_chosen_runtime_that_can_not_be_loaded_again_is_given_up_for_tensorflow(
    begin: Begin, tmp_path: Path
) -> None:
    async with begin() as server:
        await server.create()
        path = model(tmp_path, openvino=FAST)
        await server.deploy(path)
        await until_chosen(server, "was chosen")
        (server.settings.data_path / "conversions" / "m" / "openvino.echo").write_text("{")
        server.workspaces.get("w").model.replica_set.deployed().living[0].worker.child.kill("the test does")
        found = await until_chosen(server, "openvino was given up")
        assert "openvino.echo" in found["choice"]
        found = await server.until_deployed()
        assert found["served"] == ["serving_default", "other"]


# --- a runtime that was requested


async def test_a_requested_runtime_is_converted_before_it_serves_at_all(begin: Begin, tmp_path: Path) -> None:
    async with begin(convert=False) as server:
        await server.create()
        job = await server.deploy(model(tmp_path, litert=FAST), runtime="litert")
        assert job.state == "succeeded"
        found = await server.deployment()
        assert (found["served"], found["choice"]) == (["serving_default"], "litert was requested")
        assert [each["runtime"] for each in found["trials"]] == ["tensorflow", "litert"]
        assert found["remarks"] == []


async def test_a_requested_runtime_that_disagrees_is_refused_with_the_reason(begin: Begin, tmp_path: Path) -> None:
    async with begin() as server:
        await server.create()
        path = model(tmp_path)
        job = await server.deploy(path, runtime="openvino")
        assert failure(job)["code"] == "unsupported"
        assert failure(job)["message"] == f"{path} can't be served by openvino: its outputs differ."
        assert await server.deployment() is None


async def test_a_requested_runtime_that_was_not_compared_serves_and_says_so(begin: Begin, tmp_path: Path) -> None:
    unseen = {"compared": 0, "needs_samples": True, "reason": "only real requests can show whether it agrees"}
    async with begin() as server:
        await server.create()
        await server.deploy(model(tmp_path, tensorflow={"compared": 0}, litert=unseen), runtime="litert")
        found = await server.deployment()
        assert found["remarks"] == [
            "not compared yet: litert serves, but only real requests can show whether it agrees"
        ]


# --- TensorFlow next to it


async def test_tensorflow_starts_for_what_the_faster_runtime_has_not_and_ends_when_it_is_idle(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfserve.supervisor.models.full_runtime.FULL_IDLE_S", 0.3)
    async with begin() as server:
        await server.create()
        await server.deploy(model(tmp_path, openvino=FAST))
        await until_chosen(server, "was chosen")
        assert (await predict_other(server)).outputs["x"].tolist() == [[1, 2]]
        full = server.workspaces.get("w").model.replica_set.deployed().full
        assert full is not None
        assert full.alive
        await until(lambda: not full.alive)
        assert (await predict_other(server)).outputs["x"].tolist() == [[1, 2]], "it starts again"
        assert (await server.web.predict("w", 1, 2)).version == 1


async def test_tensorflow_ends_with_the_version_that_it_is_part_of(begin: Begin, tmp_path: Path) -> None:
    async with begin() as server:
        await server.create()
        path = model(tmp_path, openvino=FAST)
        await server.deploy(path)
        await until_chosen(server, "was chosen")
        await predict_other(server)
        deployed = server.workspaces.get("w").model.replica_set.deployed()
        full = deployed.full
        assert full is not None
        await server.update(path)
        await until(lambda: deployed.everything == [])
        assert not full.alive


# --- sleeping


async def put_to_sleep(server: Supervised) -> None:
    replica_set = server.workspaces.get("w").model.replica_set
    await until(lambda: not replica_set.is_busy)
    assert await replica_set.sleep.put_to_sleep()
    await until(lambda: server.web.models.get("w").state == "sleeping")


async def test_a_model_that_has_moved_wakes_with_its_runtime_and_with_tensorflow_if_that_is_needed(
    begin: Begin, tmp_path: Path
) -> None:
    async with begin() as server:
        await server.create()
        await server.deploy(model(tmp_path, openvino=FAST))
        await until_chosen(server, "was chosen")
        await put_to_sleep(server)
        assert (await predict_other(server)).outputs["x"].tolist() == [[1, 2]], "TensorFlow is started, too"
        assert (await server.deployment())["served"] == ["serving_default"]
        await put_to_sleep(server)
    async with begin() as server:
        assert server.web.models.get("w").state == "sleeping"
        assert (await server.web.predict("w", 1, 2)).outputs["x"].tolist() == [[1, 2]]
        assert (await server.until_deployed())["served"] == ["serving_default"]


async def test_a_model_whose_conversion_is_gone_when_it_wakes_is_computed_by_tensorflow(
    begin: Begin, tmp_path: Path
) -> None:
    async with begin() as server:
        await server.create()
        await server.deploy(model(tmp_path, openvino=FAST))
        await until_chosen(server, "was chosen")
        await put_to_sleep(server)
        await asyncio.to_thread(shutil.rmtree, server.settings.data_path / "conversions")
        assert (await server.web.predict("w", 1, 2)).outputs["x"].tolist() == [[1, 2]]
        assert "was given up" in (await server.deployment())["choice"]


async def test_a_model_for_which_tensorflow_is_fastest_is_not_compared_again_when_it_wakes(
    begin: Begin, tmp_path: Path
) -> None:
    async with begin() as server:
        await server.create()
        await server.deploy(model(tmp_path, litert={"best_s": {"1": 0.99}}))
        await until_chosen(server, "was chosen")
        await put_to_sleep(server)
        assert (await server.web.predict("w", 1, 2)).version == 1
        replica_set = server.workspaces.get("w").model.replica_set
        await until(lambda: not replica_set.is_starting)
        assert not replica_set.is_busy
