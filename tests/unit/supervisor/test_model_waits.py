"""What waits for a process of a model gets a response, whatever becomes of the process."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from supervised import Start, outcome, until, written

from tfserve.errors import Unavailable
from tfserve.ipc.messages import Demand, DeployJob, WakeModel
from tfserve.models.runtime_reports import Report
from tfserve.supervisor.jobs.job import CANCELLED, Job
from tfserve.supervisor.models.model_runner import Abandoned
from tfserve.supervisor.processes import restarts
from tfserve.supervisor.processes.launchers import ANYWHERE
from tfserve.supervisor.processes.output import JobOutput
from tfserve.supervisor.processes.worker import Worker


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    return written(tmp_path / "m.echo")


async def test_a_request_that_waits_for_tensorflow_is_refused_when_the_model_is_changed(
    start: Start, echo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo)
        replica_set = server.workspaces.get("w").model.replica_set
        replica_set.deployed().chosen = Report(chosen="onnxruntime", precision="f32", trials=[])
        never = asyncio.Event()

        async def start_never(_: Demand = ANYWHERE) -> Worker:
            await never.wait()
            raise AssertionError

        with monkeypatch.context() as held:
            held.setattr(server.spare, "start_cold", start_never)
            waiting = asyncio.ensure_future(server.line.ask(WakeModel(workspace="w", in_full=True)))
            await until(lambda: replica_set._full.starting is not None)
            await replica_set._stop_tasks()
            async with asyncio.timeout(10):
                with pytest.raises(Unavailable, match="Send the request again"):
                    await waiting
            assert replica_set._full.starting is None


async def test_a_restored_process_that_dies_while_another_loads_is_waited_for_without_computing(
    start: Start, echo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "FIRST_DELAY_S", 0.01)
    async with start() as server:
        await server.create()
        await server.deploy(echo, replicas=2)
        places = asyncio.Semaphore(1)
        start_cold = server.spare.start_cold

        async def start_with_place(demand: Demand = ANYWHERE) -> Worker:
            await places.acquire()
            return await start_cold(demand)

        monkeypatch.setattr(server.spare, "start_cold", start_with_place)
        for pid in (await server.deployment())["replicas"]:
            os.kill(pid, signal.SIGKILL)
        await until(places.locked)
        (pid,) = (await server.until_deployed())["replicas"]
        os.kill(pid, signal.SIGKILL)
        await server.until_deployed(state="loading", replicas=0)
        waiting = asyncio.ensure_future(server.predict([[1, 2]]))
        await server.until_status(STATUS="BUSY")  # the event loop still has time for this
        places.release()
        assert outcome(await waiting).result == b"[[[1.0,2.0]]]"
        places.release()
        await server.until_deployed(replicas=2)


async def test_a_restore_that_is_cancelled_before_its_first_step_can_begin_again(start: Start, echo: Path) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo)
        replica_set = server.workspaces.get("w").model.replica_set
        active = replica_set.deployed()
        replica_set.restore(active)
        assert replica_set._restoring.task is not None
        await replica_set._stop_tasks()
        assert replica_set._restoring.task is None


async def test_a_job_that_is_ended_while_its_start_is_recorded_does_not_begin(
    start: Start, echo: Path, tmp_path: Path
) -> None:
    async with start() as server:
        await server.create()
        model = server.workspaces.get("w").model
        job = Job(
            id=1, number=0, request=DeployJob(path=str(echo)).encode(), output=JobOutput(tmp_path / "out", 0),
            ending=CANCELLED,
        )  # fmt: skip
        model.interrupt(job)
        model.kill("it is to end")
        with pytest.raises(Abandoned):
            await model.run([job])
        assert (await server.deploy(echo)).state == "succeeded", "the next one is not ended"
