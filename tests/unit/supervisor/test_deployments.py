"""Deployed models: loaded, lost, scaled, replaced without a gap, given up, brought back, and what web is told of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from supervised import Start, Supervised, failure, is_running, outcome, until, written

from tfserve.errors import NotFound, TFserveError, Unavailable
from tfserve.ipc.messages import (
    CancelJob,
    Demand,
    DeployJob,
    FindWorkspaces,
    RestartWorkspace,
    ScaleModel,
    UndeployJob,
)
from tfserve.supervisor.models import announcements
from tfserve.supervisor.processes import restarts
from tfserve.supervisor.processes.launchers import ANYWHERE
from tfserve.supervisor.processes.worker import Worker

NO_PYTHON = "/nowhere"
"""As PYTHONHOME it ends every new worker before its first line."""


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "FIRST_DELAY_S", 0.01)


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    return written(tmp_path / "m.echo")


async def kill(server: Supervised, at: int = 0) -> int:
    """Kills one of the model's processes from outside; its pid."""
    pid: int = (await server.deployment())["replicas"][at]
    os.kill(pid, signal.SIGKILL)
    return pid


# --- coming and going


async def test_a_model_is_deployed_computes_for_both_apis_and_is_undeployed(start: Start, echo: Path) -> None:
    async with start() as server:
        await server.create()
        with pytest.raises(NotFound, match=r"^There is no model 'w'"):
            await server.web.predict("w", 1, 2)
        assert failure(await server.predict([[1, 2]]))["code"] == "not_found"
        job = await server.deploy(echo)
        assert job.state == "succeeded"
        assert json.loads(outcome(job).detail or b"")["version"] == 1
        assert (await server.web.predict("w", 1, 2)).outputs["x"].tolist() == [[1, 2]]
        assert outcome(await server.predict([[1, 2]])).result == b"[[[1.0,2.0]]]"
        found = await server.deployment()
        assert (found["path"], found["state"], found["format"], found["runtime"]) == (
            str(echo),
            "active",
            "echo",
            "echo",
        )
        assert found["replicas"] == [found["pid"]]
        gone = await server.submit(UndeployJob())
        detail = json.loads(outcome(gone).detail or b"")
        assert detail["version"] == 1
        assert detail["memory_freed_bytes"] > 1_000_000
        assert not is_running(found["pid"])
        assert await server.deployment() is None
        assert failure(await server.submit(UndeployJob()))["code"] == "not_found"
        assert failure(await server.update(echo))["code"] == "not_found"
        assert server.web.announced[-1] == []


async def test_the_list_of_models_has_those_that_serve_and_those_that_could_not(start: Start, echo: Path) -> None:
    async with start() as server:
        for name in ("empty", "w", "broken", "wide"):
            await server.create(name)
        for name in ("w", "wide"):
            assert (await server.deploy(echo, name=name)).state == "succeeded"
        failed = await server.deploy(echo.parent / "nothing.echo", name="broken")
        assert failed.state == "failed"
        found = await server.line.ask(FindWorkspaces(with_model=True))
        assert [each["name"] for each in found.workspaces] == ["broken", "w", "wide"]
        found = await server.line.ask(FindWorkspaces(with_model=True, text="W", limit=1, offset=1))
        assert ([each["name"] for each in found.workspaces], found.total) == (["wide"], 2)


async def test_what_can_not_be_loaded_leaves_the_version_that_serves_alone(
    start: Start, echo: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.echo").write_text("{")
    async with start() as server:
        await server.create()
        await server.deploy(echo)
        before = await server.deployment()
        for path in (tmp_path / "bad.echo", tmp_path / "missing.echo"):
            job = await server.deploy(path)
            assert (job.state, failure(job)["code"]) == ("failed", "invalid")
            status = await server.status()
            assert status["last_deployment_failure"] == failure(job)["message"]
            assert path.name in status["last_deployment_failure"]
            status["deployment"]["concurrency"] = before["concurrency"]  # which the worker may report meanwhile
            assert status["deployment"] == before
        assert (await server.web.predict("w", 1, 2)).version == 1
        await server.deploy(echo)
        assert (await server.status())["last_deployment_failure"] is None


async def test_an_update_leaves_no_gap_and_drops_nothing(start: Start, echo: Path, tmp_path: Path) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo, replicas=2)
        former = (await server.deployment())["replicas"]
        versions: list[list[int]] = [[] for _ in range(4)]
        is_over = asyncio.Event()

        async def predict_repeatedly(seen: list[int]) -> None:
            while not is_over.is_set():
                seen.append((await server.web.predict("w", 1, 2)).version)

        clients = [asyncio.ensure_future(predict_repeatedly(seen)) for seen in versions]
        await until(lambda: all(len(seen) > 2 for seen in versions))
        assert (await server.update(written(tmp_path / "n.echo"))).state == "succeeded"
        await until(lambda: not any(map(is_running, former)))
        is_over.set()
        await asyncio.gather(*clients)
        for seen in versions:
            assert seen == sorted(seen)
            assert {*seen} == {1, 2}
        found = await server.deployment()
        assert (found["version"], len(found["replicas"])) == (2, 2)
        assert [("active", 2), ("draining", 2)] in server.web.announced
        await until(lambda: server.web.announced[-1] == [("active", 2)])


async def test_a_version_ends_only_when_web_waits_for_nothing_more_from_it(
    start: Start, echo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo)
        (former,) = (await server.deployment())["replicas"]
        drained = asyncio.Event()
        really_drained = server.web.models.drained

        async def slowly(*arguments: object) -> None:
            await drained.wait()
            await really_drained(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(server.web.models, "drained", slowly)
        await server.update(written(tmp_path / "n.echo"))
        assert is_running(former)
        assert server.web.announced[-1] == [("active", 1), ("draining", 1)]
        drained.set()
        await until(lambda: not is_running(former))


# --- replicas


async def test_a_replica_that_dies_is_replaced_while_the_other_serves(start: Start, echo: Path) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo, replicas=2)
        announced = len(server.web.announced)
        dead = await kill(server)
        found = await server.until_deployed(replicas=1)
        assert "killed by SIGKILL" in found["reason"]
        assert (await server.web.predict("w", 1, 2)).version == 1
        found = await server.until_deployed(replicas=2)
        assert dead not in found["replicas"]
        assert found["reason"] == ""
        await until(lambda: server.web.announced[-1] == [("active", 2)])
        assert [("active", 1)] in server.web.announced[announced:]


async def test_a_model_without_a_living_process_is_loading_until_it_is_back(
    start: Start, echo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo)
        may_start = asyncio.Event()
        start_cold = server.spare.start_cold

        async def start_later(demand: Demand = ANYWHERE) -> Worker:
            await may_start.wait()
            return await start_cold(demand)

        monkeypatch.setattr(server.spare, "start_cold", start_later)
        await kill(server)
        await until(lambda: server.web.announced[-1] == [("loading", 0)])
        waiting = asyncio.ensure_future(server.predict([[1, 2]]))
        await server.until_status(STATUS="BUSY")
        with pytest.raises(Unavailable, match=r"^The model 'w' is loading: its worker died: it was killed by SIGKILL"):
            await server.web.predict("w", 1, 2)
        may_start.set()
        assert outcome(await waiting).result == b"[[[1.0,2.0]]]", "a job waits until the model is back"
        await until(lambda: server.web.announced[-1] == [("active", 1)])


async def test_replicas_are_scaled_up_and_down_while_the_model_serves(start: Start, echo: Path) -> None:
    async with start() as server:
        await server.create()
        with pytest.raises(NotFound, match=r"^No model is deployed in workspace 'w'"):
            await server.line.ask(ScaleModel(workspace="w", replicas=2))
        await server.deploy(echo)
        (first,) = (await server.deployment())["replicas"]
        await server.line.ask(ScaleModel(workspace="w", replicas=3))
        found = await server.until_deployed(replicas=3)
        await server.line.ask(ScaleModel(workspace="w", replicas=1))
        assert (await server.deployment())["replicas"] == [first]
        await until(lambda: not any(map(is_running, found["replicas"][1:])))
        assert server.web.announced[-1] == [("active", 1)]


async def test_when_no_more_can_be_loaded_those_that_live_continue(start: Start, echo: Path) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo)
        await asyncio.to_thread(echo.write_text, "{")
        with pytest.raises(Unavailable, match=r"^1 of 2 replicas serve: .*m\.echo"):
            await server.line.ask(ScaleModel(workspace="w", replicas=2))
        assert (await server.web.predict("w", 1, 2)).version == 1
        await kill(server)
        found = await server.until_deployed(state="failed", replicas=0)
        assert "m.echo" in found["reason"]
        await until(lambda: server.web.announced[-1] == [("failed", 0)])
        assert failure(await server.predict([[1, 2]]))["code"] == "unavailable"
        written(echo)
        assert (await server.deploy(echo)).state == "succeeded"


async def test_a_model_whose_processes_die_while_loading_is_given_up_until_a_restart(
    start: Start, echo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo)
        with monkeypatch.context() as broken:
            broken.setenv("PYTHONHOME", NO_PYTHON)
            await kill(server)
            await server.until_deployed(state="failed", replicas=0)
            status = await server.status()
            assert status["STATUS"] == "EXCEPT"
            assert "its model can't be loaded again; the last time it exited with code 1" in status["reason"]
            with pytest.raises(TFserveError, match=r"^Workspace 'w' has failed permanently: .*can't be loaded again"):
                await server.predict([[1, 2]])
        await server.line.ask(RestartWorkspace(name="w"))
        await server.until_deployed()
        assert (await server.predict([[1, 2]])).state == "succeeded"


async def test_a_model_that_loads_longer_than_a_stable_process_lives_is_given_up_like_any_other(
    start: Start, echo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "STABLE_S", 0.001)
    async with start() as server:
        await server.create()
        await server.deploy(echo)
        with monkeypatch.context() as broken:
            broken.setenv("PYTHONHOME", NO_PYTHON)
            await kill(server)
            await server.until_deployed(state="failed", replicas=0)


async def test_a_deployment_that_dies_while_it_loads_fails_after_a_second_try(
    start: Start, echo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as server:
        await server.create()
        with monkeypatch.context() as broken:
            broken.setenv("PYTHONHOME", NO_PYTHON)
            job = await server.deploy(echo, replicas=2)
        assert job.state == "lost"
        assert "exited with code 1" in (await server.status())["last_deployment_failure"]
        assert await server.deployment() is None


# --- the end of the server, and the next one


async def test_a_deployment_returns_with_its_version_and_options(start: Start, echo: Path, tmp_path: Path) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(written(tmp_path / "first.echo"))
        await server.deploy(echo)
        await server.line.ask(ScaleModel(workspace="w", replicas=2))
        former = await server.deployment()
    assert not any(map(is_running, former["replicas"]))
    assert server.web.announced[-1] == [("failed", 0)], "clients get 503 while the server stops, not 404"
    async with start() as server:
        found = await server.until_deployed(replicas=2)
        assert (found["version"], found["path"]) == (2, str(echo))
        assert (await server.web.predict("w", 1, 2)).version == 2
        await server.deploy(echo)
        assert (await server.deployment())["version"] == 3
        await server.submit(UndeployJob())
    async with start() as server:
        assert await server.deployment() is None


async def test_a_model_that_is_gone_when_the_server_returns_has_failed_with_the_reason(
    start: Start, echo: Path
) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo)
    await asyncio.to_thread(echo.unlink)
    async with start() as server:
        found = await server.until_deployed(state="failed", replicas=0)
        assert "m.echo" in found["reason"]
        assert (await server.run("x = 1")).state == "succeeded", "its workspace goes on"


# --- web


async def test_a_web_process_that_does_not_answer_holds_nothing_up(
    start: Start, echo: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(announcements, "ANNOUNCE_S", 0.05)
    async with start() as server:
        await server.create()
        other = await server.new_web()
        server.web.answers.clear()
        assert (await server.deploy(echo)).state == "succeeded"
        assert (await other.predict("w", 1, 2)).version == 1
        assert "a web process did not respond to ModelChanged within 0.05 s" in caplog.text
        server.web.answers.set()


async def test_a_web_process_that_begins_later_knows_all_models_and_one_that_ends_is_forgotten(
    start: Start, echo: Path
) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo)
        other = await server.new_web()
        assert (await other.predict("w", 1, 2)).version == 1
        server.web.connection.close()
        await until(lambda: len(server.announcements.lines) == 1)
        server.web = other
        await server.line.ask(ScaleModel(workspace="w", replicas=2))
        assert other.announced[-1] == [("active", 2)]


# --- jobs that end early, and deadly ones


@pytest.fixture(scope="session")
def onnx_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`divide.onnx` dies of a -1, the lowest number being divided by it; `count.onnx` counts up to the number."""
    import onnx
    from onnx import TensorProto, helper

    folder = tmp_path_factory.mktemp("onnx")

    def save(name: str, nodes: list[onnx.NodeProto], shape: list[int | str], constants: list[onnx.TensorProto]) -> None:
        values = [helper.make_tensor_value_info(each, TensorProto.INT64, shape) for each in ("x", "y")]
        graph = helper.make_graph(nodes, name, values[:1], values[1:], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, str(folder / f"{name}.onnx"))

    def constant(name: str, value: int, shape: tuple[int, ...] = ()) -> onnx.TensorProto:
        return helper.make_tensor(name, TensorProto.INT64, shape, [value])

    save("divide", [helper.make_node("Div", ["low", "x"], ["y"])], ["n"], [constant("low", -(2**63), (1,))])
    going_on = helper.make_tensor_value_info("again", TensorProto.BOOL, [])
    turn, total, sum_ = (helper.make_tensor_value_info(n, TensorProto.INT64, []) for n in ("turn", "total", "sum"))
    body = helper.make_graph(
        [helper.make_node("Add", ["total", "one"], ["sum"]), helper.make_node("Identity", ["going"], ["again"])],
        "body", [turn, helper.make_tensor_value_info("going", TensorProto.BOOL, []), total], [going_on, sum_],
        [constant("one", 1)],
    )  # fmt: skip
    save("count", [helper.make_node("Loop", ["x", "", "zero"], ["y"], body=body)], [], [constant("zero", 0)])
    return folder


async def test_a_request_that_kills_is_not_tried_again_and_the_model_returns_for_others(
    start: Start, onnx_models: Path
) -> None:
    async with start() as server:
        await server.create()
        assert (await server.deploy(onnx_models / "divide.onnx", runtime="onnxruntime")).state == "succeeded"
        assert (
            outcome(await server.predict([1, 2], fetches="y")).result
            == b"[[-9223372036854775808,-4611686018427387904]]"
        )
        pid = (await server.deployment())["pid"]
        killed = await server.predict([-1], fetches="y")
        assert killed.state == "lost"
        assert failure(killed)["detail"]["signal"] == "SIGFPE"
        assert not is_running(pid)
        assert (await server.predict([1], fetches="y")).state == "succeeded"
        status = await server.status()
        assert (status["STATUS"], status["deaths_in_a_row"]) == ("IDLE", 0), "scripts have nothing to do with it"


async def test_a_model_that_dies_of_its_example_is_deployed_without_it_and_says_so(
    start: Start, onnx_models: Path
) -> None:
    async with start() as server:
        await server.create()
        options = {"runtime": "onnxruntime", "warm_up": {"x": [-1]}}
        job = await server.deploy(onnx_models / "divide.onnx", **options)
        (remark,) = json.loads(outcome(job).detail or b"")["remarks"]
        assert remark.startswith("not warmed up with the given example: its process ended: it was killed by SIGFPE")


async def test_a_prediction_that_computes_is_ended_by_a_cancel_and_by_its_time_limit(
    start: Start, onnx_models: Path
) -> None:
    async with start(cancel_grace_s=0.05) as server:
        await server.create()
        assert (
            outcome(await server.deploy(onnx_models / "count.onnx", runtime="onnxruntime", warm_up=False)).error is None
        )
        assert outcome(await server.predict(3, fetches="y")).result == b"[3]"
        endless = 10**15
        limited = await server.predict(endless, fetches="y", time_limit_s=0.1)
        assert (limited.state, failure(limited)["code"]) == ("failed", "timed_out")
        job = await server.predict(endless, fetches="y", wait_s=0.0)
        await server.until_status(CUR_JOB_NUM=job.job, STATUS="BUSY")
        cancelled = await server.line.ask(CancelJob(workspace="w", job=job.job))
        assert cancelled is not None
        assert cancelled.state == "cancelled"
        assert outcome(await server.predict(3, fetches="y")).result == b"[3]"


async def test_a_deployment_is_cancelled_while_it_loads(start: Start, echo: Path) -> None:
    async with start() as server:
        await server.create()
        job = await server.submit(DeployJob(path=str(echo)), wait_s=0.0)
        await server.until_status(CUR_JOB_NUM=job.job)
        cancelled = await server.line.ask(CancelJob(workspace="w", job=job.job))
        assert cancelled is not None
        assert cancelled.state == "cancelled"
        status = await server.status()
        assert (status["deployment"], status["STATUS"]) == (None, "IDLE")
        assert "ended before the model was ready" in status["last_deployment_failure"]
