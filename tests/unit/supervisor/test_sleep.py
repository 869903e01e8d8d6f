"""Models that are not used sleep, and wake for every kind of request; the least recently used ones make room."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from supervised import Start, Supervised, failure, is_running, outcome, until, written

from tfserve.errors import NotFound, TFserveError, TimedOut, Unavailable
from tfserve.ipc.messages import Demand, ModelOptions, RestartWorkspace, ScaleModel, UndeployJob, UpdateJob
from tfserve.models.runtime_reports import Report
from tfserve.supervisor.models import awake_models, sleep
from tfserve.supervisor.models.awake_models import AwakeModels
from tfserve.supervisor.models.deployment import Deployment
from tfserve.supervisor.processes import restarts
from tfserve.supervisor.processes.launchers import ANYWHERE
from tfserve.supervisor.processes.worker import Worker
from tfserve.web.predictions.request import Caller, CallerGone, PredictionRequest

SOON_S = 0.05
LATER_S = 1000.0


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "FIRST_DELAY_S", 0.01)


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    return written(tmp_path / "m.echo")


async def until_asleep(server: Supervised, name: str = "w") -> None:
    await server.until_deployed(name, state="sleeping", replicas=0)
    await until(lambda: server.web.models.get(name).state == "sleeping")


def settings_of(deployment: Deployment) -> dict[str, float]:
    return {"default": sleep.idle_after_s(deployment, 60.0), "without": sleep.idle_after_s(deployment, 0.0)}


@pytest.mark.parametrize(
    ("options", "is_stateful", "idle_after", "makes_room"),
    [
        ({}, False, {"default": 60, "without": 0}, True),
        ({"idle_after_s": 5.0}, False, {"default": 5, "without": 5}, True),
        ({"idle_after_s": 0.0}, False, {"default": 0, "without": 0}, False),
        ({}, True, {"default": 0, "without": 0}, False),
        ({"stateless": True}, True, {"default": 60, "without": 0}, True),
        ({"idle_after_s": 5.0}, True, {"default": 5, "without": 5}, True),
    ],
)
def test_when_a_model_may_sleep(
    options: dict[str, Any], is_stateful: bool, idle_after: Mapping[str, float], makes_room: bool
) -> None:
    deployment = Deployment(
        id=1, path="/m", weights=None, device="/cpu:0", options=ModelOptions(**options), version=1, format="",
        signatures={}, is_stateful=is_stateful,
    )  # fmt: skip
    assert settings_of(deployment) == idle_after
    assert sleep.may_make_room(deployment) is makes_room


def test_what_sleeps_first_was_idle_for_longest() -> None:
    assert awake_models.least_recently_used_first({"a": 1.0, "b": 30.0, "c": 0.0}) == ["b", "a", "c"]


async def test_an_idle_model_ends_its_process_and_the_next_prediction_starts_it(start: Start, echo: Path) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo, idle_after_s=SOON_S)
        (pid,) = (await server.deployment())["replicas"] or [None]
        await until_asleep(server)
        await until(lambda: pid is None or not is_running(pid))
        assert server.web.models.get("w").is_ready
        assert (await server.web.predict("w", 1, 2)).outputs["x"].tolist() == [[1, 2]]
        await until_asleep(server)
        assert outcome(await server.predict([[1, 2]])).result == b"[[[1.0,2.0]]]", "a job wakes it, too"


async def test_requests_at_the_same_time_wake_it_once_and_in_every_web_process(start: Start, echo: Path) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo, idle_after_s=SOON_S)
        other = await server.new_web()
        await until_asleep(server)
        replica_set = server.workspaces.get("w").model.replica_set
        await replica_set.scaling.set_idle_after(LATER_S)
        began = server.spare.start_cold
        started: list[Worker] = []

        async def start_counted(demand: Demand = ANYWHERE) -> Worker:
            started.append(await began(demand))
            return started[-1]

        server.spare.start_cold = start_counted  # type: ignore[method-assign]
        results = await asyncio.gather(*(web.predict("w", n, 0) for n in range(25) for web in (server.web, other)))
        assert [result.outputs["x"][0, 0] for result in results] == [n for n in range(25) for _ in range(2)]
        assert len(started) == 1


async def test_no_request_fails_while_a_model_falls_asleep_again_and_again(start: Start, echo: Path) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo)
        other = await server.new_web()
        replica_set = server.workspaces.get("w").model.replica_set
        is_over = asyncio.Event()
        counts = [0] * 8

        async def predict_repeatedly(at: int) -> None:
            web = (server.web, other)[at % 2]
            while not is_over.is_set():
                assert (await web.predict("w", at, 2)).outputs["x"].tolist() == [[at, 2]]
                counts[at] += 1

        clients = [asyncio.ensure_future(predict_repeatedly(at)) for at in range(8)]
        for _ in range(4):
            before = list(counts)
            await until(lambda before=before: all(now > then + 1 for now, then in zip(counts, before, strict=True)))
            await until(lambda: not replica_set.is_busy)
            assert await replica_set.sleep.put_to_sleep()
        is_over.set()
        await asyncio.gather(*clients)
        assert sum(version == [("sleeping", 0)] for version in server.web.announced) == 4


async def test_a_wake_that_fails_says_why_and_is_tried_again(
    start: Start, echo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "FIRST_DELAY_S", 60.0)
    async with start() as server:
        await server.create()
        await server.deploy(echo, idle_after_s=SOON_S)
        await until_asleep(server)
        await asyncio.to_thread(echo.write_text, "{")
        with pytest.raises(Unavailable, match=r"^The model sleeps and could not be woken: .*m\.echo"):
            await server.web.predict("w", 1, 2)
        assert (await server.deployment())["state"] == "sleeping"
        assert not server.web.models.get("w").is_ready
        assert failure(await server.predict([[1, 2]]))["code"] == "unavailable"
        with pytest.raises(Unavailable, match=r"could not be woken: .*m\.echo.* Send the request again in \d+\.\d s"):
            await server.web.predict("w", 1, 2)
        written(echo)
        await server.line.ask(RestartWorkspace(name="w"))
        assert (await server.web.predict("w", 1, 2)).version == 1
        assert server.web.models.get("w").is_ready


async def test_a_process_that_is_killed_while_it_wakes_is_started_again(
    start: Start, echo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo, idle_after_s=SOON_S)
        await until_asleep(server)
        await server.workspaces.get("w").model.replica_set.scaling.set_idle_after(LATER_S)
        began, killed = server.spare.start_cold, []

        async def start_and_kill_first(demand: Demand = ANYWHERE) -> Worker:
            worker = await began(demand)
            if not killed:
                killed.append(worker.child.pid)
                os.kill(worker.child.pid, signal.SIGKILL)
            return worker

        monkeypatch.setattr(server.spare, "start_cold", start_and_kill_first)
        results = await asyncio.gather(*(server.web.predict("w", n, 2) for n in range(5)))
        assert [result.outputs["x"][0, 0] for result in results] == [0, 1, 2, 3, 4]
        assert killed != (await server.deployment())["replicas"]


async def test_waiting_for_a_wake_is_bounded_by_timeout_and_ends_with_the_client(
    start: Start, echo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo, idle_after_s=SOON_S)
        await until_asleep(server)
        may_start, began = asyncio.Event(), server.spare.start_cold

        async def start_later(demand: Demand = ANYWHERE) -> Worker:
            await may_start.wait()
            return await began(demand)

        monkeypatch.setattr(server.spare, "start_cold", start_later)
        model, caller, inputs = server.web.models.get("w"), Caller(), {"x": np.array([[1, 2]], np.float32)}
        with pytest.raises(TimedOut, match=r"within 0\.01 s"):
            await model.predict(PredictionRequest(inputs, timeout_s=0.01))
        gone = asyncio.ensure_future(model.predict(PredictionRequest(inputs, caller=caller)))
        await until(lambda: model.in_flight)
        caller.gone()
        with pytest.raises(CallerGone):
            await gone
        waits = asyncio.ensure_future(model.predict(PredictionRequest(inputs)))
        await until(lambda: model.in_flight)
        may_start.set()
        assert (await waits).version == 1


async def test_a_sleeping_model_is_updated_scaled_and_undeployed(start: Start, echo: Path, tmp_path: Path) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo, idle_after_s=SOON_S)
        await until_asleep(server)
        await server.line.ask(ScaleModel(workspace="w", replicas=2))
        assert (await server.deployment())["state"] == "sleeping"
        assert (await server.web.predict("w", 1, 2)).version == 1
        await until_asleep(server)
        bad = await server.update(tmp_path / "missing.echo")
        assert bad.state == "failed"
        assert (await server.deployment())["state"] == "sleeping", "a new version has to prove that it loads"
        updated = await server.submit(UpdateJob(path=str(written(tmp_path / "n.echo")), idle_after_s=LATER_S))
        assert updated.state == "succeeded"
        await server.until_deployed(replicas=2)
        assert (await server.web.predict("w", 1, 2)).version == 2
        assert await server.workspaces.get("w").model.replica_set.sleep.put_to_sleep()
        await until_asleep(server)
        assert (await server.submit(UndeployJob())).state == "succeeded"
        with pytest.raises(NotFound):
            await server.web.predict("w", 1, 2)


async def test_a_request_that_waits_for_a_model_which_is_replaced_meanwhile_gets_the_new_version(
    start: Start, echo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo, idle_after_s=SOON_S)
        await until_asleep(server)
        began, waits = server.spare.start_cold, asyncio.Event()

        async def start_second(demand: Demand = ANYWHERE) -> Worker:
            if waits.is_set():
                return await began(demand)
            waits.set()
            await asyncio.Event().wait()
            raise AssertionError

        monkeypatch.setattr(server.spare, "start_cold", start_second)
        waiting = asyncio.ensure_future(server.web.predict("w", 1, 2))
        await waits.wait()
        assert (await server.update(written(tmp_path / "n.echo"))).state == "succeeded"
        assert (await waiting).version == 2


async def test_what_slept_when_the_server_ended_sleeps_when_it_returns(start: Start, echo: Path) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo, idle_after_s=SOON_S)
        await until_asleep(server)
        former = await server.deployment()
    async with start() as server:
        found = await server.deployment()
        assert found == former
        assert found["runtime"] == "echo"
        assert (await server.web.predict("w", 1, 2)).outputs["x"].tolist() == [[1, 2]]
        await server.workspaces.get("w").model.replica_set.scaling.set_idle_after(0.0)
        await server.web.predict("w", 1, 2)
    async with start() as server:
        assert (await server.until_deployed())["options"]["idle_after_s"] == 0.0


async def test_a_version_that_appears_while_a_model_sleeps_is_not_taken_for_the_one_that_slept(
    start: Start, tmp_path: Path
) -> None:
    (first := tmp_path / "v" / "1").mkdir(parents=True)
    written(first / "m.echo")
    async with start() as server:
        await server.create()
        await server.deploy(tmp_path / "v", idle_after_s=SOON_S)
        await until_asleep(server)
        (second := tmp_path / "v" / "2").mkdir()
        written(second / "m.echo", other="float32")
        assert (await server.web.predict("w", 1, 2)).outputs["x"].tolist() == [[1, 2]]
        await until_asleep(server)
        assert (await server.update(tmp_path / "v")).state == "succeeded"
        model = server.web.models.get("w")
        assert (model.version, [spec.name for spec in model.signatures["serving_default"].inputs]) == (2, ["other"])


def test_a_converted_model_is_given_up_when_its_files_have_changed_while_it_slept() -> None:
    report = Report(chosen="litert", precision="float32", trials=[], path="/converted")
    deployment = Deployment(
        id=1, path="/m", weights=None, device="/cpu:0", options=ModelOptions(), version=1, format="SavedModel",
        signatures={}, chosen=report, report=report, files_changed_at=5.0,
    )  # fmt: skip
    deployment.found_files(5.0)
    assert deployment.chosen is report
    deployment.found_files(6.0)
    assert (deployment.chosen, deployment.report) == (None, None)
    assert "the files of the model have changed" in deployment.choice


async def test_the_least_recently_used_model_sleeps_when_others_need_its_place(start: Start, echo: Path) -> None:
    async with start(max_awake_models=2) as server:
        for name in ("never", "a", "b"):
            await server.create(name)
        await server.deploy(echo, "never", idle_after_s=0.0)
        await server.deploy(echo, "a")
        assert (await server.deployment("a"))["state"] == "active"
        await server.deploy(echo, "b")
        await until_asleep(server, "a")
        assert (await server.web.predict("a", 1, 2)).version == 1
        await until_asleep(server, "b")
        assert (await server.deployment("never"))["state"] == "active"


async def test_wakes_at_the_same_time_do_not_exceed_the_limit_for_long_and_fail_no_request(
    start: Start, echo: Path
) -> None:
    async with start(max_awake_models=1) as server:
        names = ["a", "b", "c", "d"]
        for name in names:
            await server.create(name)
            await server.deploy(echo, name)
        results = await asyncio.gather(*(server.web.predict(name, n, 2) for name in names for n in range(3)))
        assert [result.outputs["x"][0, 0] for result in results] == [0, 1, 2] * 4
        replica_sets = [server.workspaces.get(name).model.replica_set for name in names]
        await until(lambda: sum(each.sleep.is_awake for each in replica_sets) <= 1)


class FakeFree:
    """Free memory, of which each awake model uses one GiB."""

    def __init__(self, total_gib: int) -> None:
        self.total_gib = total_gib
        self.server: Supervised | None = None

    def __call__(self) -> int:
        assert self.server is not None
        sets = [each.model.replica_set for each in self.server.workspaces]
        return (self.total_gib - sum(each.sleep.is_awake for each in sets)) * 2**30


async def test_models_make_room_when_memory_is_short(start: Start, echo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = FakeFree(4)
    monkeypatch.setattr(AwakeModels.__init__, "__defaults__", (free,))
    async with start(min_free_memory="1GiB") as server:
        free.server = server
        for name in "abcd":
            await server.create(name)
            assert (await server.deploy(echo, name)).state == "succeeded"
        states = [(await server.deployment(name))["state"] for name in "abcd"]
        assert states.count("sleeping") >= 1
        assert (states[0], states[-1]) == ("sleeping", "active")


async def test_trials_and_waiting_jobs_keep_a_model_awake(start: Start, echo: Path) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo)
        replica_set = server.workspaces.get("w").model.replica_set
        replica_set._migration.task = asyncio.ensure_future(asyncio.sleep(0))
        assert not await replica_set.sleep.put_to_sleep()
        replica_set._migration.task = None
        assert await replica_set.sleep.put_to_sleep()
        assert not await replica_set.sleep.put_to_sleep(), "it sleeps already"


def test_options_that_are_not_set_are_not_stored() -> None:
    assert "idle_after_s" not in msgspec.to_builtins(ModelOptions())
    assert issubclass(TimedOut, TFserveError)
