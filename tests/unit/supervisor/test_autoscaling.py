"""Models whose number of replicas follows their load, on real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from supervised import Start, Supervised, failure, is_running, outcome, until, written

from tfserve.errors import Conflict, Invalid, Unavailable
from tfserve.ipc.messages import Autoscale, CreateWorkspace, Demand, JobState, ScaleModel, ScriptJob, UpdateJob
from tfserve.supervisor.models import scaling
from tfserve.supervisor.processes.launchers import NoMachine, Spares

LIMITS = Autoscale(min=1, max=3, target_queue=4.0)


@pytest.fixture(autouse=True)
def _fast_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "READ_EVERY_S", 0.02)


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    return written(tmp_path / "m.echo")


async def held(server: Supervised, count: int) -> list[asyncio.Task[object]]:
    """Predictions that are in flight until `released`."""
    (pid,) = (await server.deployment())["replicas"]
    os.kill(pid, signal.SIGSTOP)
    tasks = [asyncio.ensure_future(server.web.predict("w", n, 0)) for n in range(count)]
    await until(lambda: server.web.models.get("w").in_flight == count)
    return tasks


async def test_load_starts_replicas_and_its_end_ends_them_without_dropping_a_request(start: Start, echo: Path) -> None:
    async with start(autoscale_down_s=0.5) as server:
        await server.create()
        await server.deploy(echo, autoscale=LIMITS)
        (first,) = (await server.deployment())["replicas"]
        waiting = await held(server, 9)
        found = await server.until_deployed(replicas=3)
        assert found["options"]["replicas"] == 3
        os.kill(first, signal.SIGCONT)
        results = await asyncio.gather(*waiting)
        assert [result.outputs["x"][0, 0] for result in results] == list(range(9))  # type: ignore[attr-defined]
        await server.until_deployed(replicas=1)
        await until(lambda: sum(map(is_running, found["replicas"])) == 1)
        assert (await server.web.predict("w", 1, 2)).outputs["x"].tolist() == [[1, 2]]


async def test_a_fixed_number_is_refused_until_autoscaling_is_turned_off(start: Start, echo: Path) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo, autoscale=LIMITS)
        with pytest.raises(Conflict, match=r"'w' has 1 to 3 replicas by its load \(autoscale\)"):
            await server.line.ask(ScaleModel(workspace="w", replicas=2))
        await server.line.ask(ScaleModel(workspace="w", autoscale=Autoscale(min=2, max=3)))
        assert len((await server.deployment())["replicas"]) == 2
        await server.line.ask(ScaleModel(workspace="w", replicas=1, autoscale=False))
        assert len((await server.deployment())["replicas"]) == 1
        await server.line.ask(ScaleModel(workspace="w", replicas=2))
        assert len((await server.deployment())["replicas"]) == 2


async def test_an_update_keeps_the_limits_or_changes_them(start: Start, echo: Path) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(
            echo, replicas=2, autoscale=Autoscale(min=2, max=3), placement="pack", resources={"cpu": 0.5}
        )
        await server.update(echo)
        options = (await server.deployment())["options"]
        assert options["autoscale"]["min"] == 2
        assert (options["placement"], options["resources"]) == ("pack", {"cpu": 0.5})
        await server.submit(UpdateJob(path=str(echo), autoscale=False, replicas=1, resources={}))
        found = await server.until_deployed(replicas=1)
        assert found["options"].keys().isdisjoint({"autoscale", "resources"})


async def test_autoscaling_continues_after_a_restart_of_the_server(start: Start, echo: Path) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(echo, autoscale=LIMITS)
    async with start(autoscale_down_s=0.3) as server:
        await server.until_deployed(replicas=1)
        (first,) = (await server.deployment())["replicas"]
        waiting = await held(server, 6)
        await server.until_deployed(replicas=2)
        os.kill(first, signal.SIGCONT)
        await asyncio.gather(*waiting)
        await server.until_deployed(replicas=1)


async def test_resources_that_this_machine_does_not_have_are_refused_at_once(start: Start, echo: Path) -> None:
    async with start() as server:
        await server.create()
        with pytest.raises(Invalid, match=r"99 GPUs requested, and node 'head' has \d+ GPU"):
            await server.deploy(echo, resources={"gpu": 99.0})
        with pytest.raises(Invalid, match="node 'big' was requested"):
            await server.line.ask(CreateWorkspace(resources={"node": "big"}))
        with pytest.raises(Invalid, match="only for a workspace of type 0"):
            await server.line.ask(CreateWorkspace(type=1, resources={"cpu": 1.0}))
        assert (await server.status())["JOB_COUNT"] == 0
        assert (await server.status())["CUR_JOB_NUM"] == -1, "no job was recorded"
        assert outcome(await server.deploy(echo, resources={"cpu": 0.5, "node": "head"})).state == JobState.SUCCEEDED


async def test_a_job_states_what_its_workspace_must_have(start: Start) -> None:
    async with start() as server:
        await server.line.ask(CreateWorkspace(name="w", resources={"cpu": 1.0}))
        assert (await server.status())["resources"] == {"cpu": 1.0}
        job = await server.submit(ScriptJob(clear=False, text="1 / 0", resources={"cpu": 0.5}))
        assert failure(job)["type"] == "ZeroDivisionError", "it ran"
        with pytest.raises(Invalid, match=r"1 GPU requested, and the workspace has 0 GPUs\. A job runs in the process"):
            await server.submit(ScriptJob(clear=False, text="pass", resources={"gpu": 1.0}))


class FullCluster:
    """A cluster with room for a limited number of further workers, all on this machine."""

    def __init__(self, server: Supervised, room: int) -> None:
        self.room = room
        self.changed = asyncio.Event()
        self._server = server

    async def place(self, demand: Demand) -> Spares:
        if not self.room:
            raise NoMachine(problem=f"it needs {demand.resources or 'a process'}, and nothing is free.")
        self.room -= 1
        return self._server.spare.here

    async def adopt(self, *_: object) -> None:
        return None

    async def wait_for_change(self) -> None:
        await self.changed.wait()

    def fill(self) -> None:
        """Without spares."""

    async def close(self) -> None:
        """It has nothing of its own."""


async def test_a_number_for_which_there_is_no_room_is_reported_and_reached_later(start: Start, echo: Path) -> None:
    async with start() as server:
        await server.create()
        server.spare.elsewhere = cluster = FullCluster(server, room=2)  # type: ignore[assignment]
        await server.deploy(echo)
        with pytest.raises(
            Unavailable, match=r"^2 of 3 replicas serve: No machine of the cluster can run this now: it"
        ):
            await server.line.ask(ScaleModel(workspace="w", replicas=3))
        assert "nothing is free" in (await server.deployment())["reason"]
        cluster.room = 1
        cluster.changed.set()
        await server.until_deployed(replicas=3)


async def test_less_load_ends_the_wait_for_room(start: Start, echo: Path) -> None:
    async with start(autoscale_down_s=0.3) as server:
        await server.create()
        server.spare.elsewhere = FullCluster(server, room=1)  # type: ignore[assignment]
        await server.deploy(echo, autoscale=LIMITS)
        (first,) = (await server.deployment())["replicas"]
        waiting = await held(server, 9)
        scaled = server.workspaces.get("w").model.replica_set
        # A reading while the requests arrive may ask for 2 first; while it waits for room, more load changes nothing.
        await until(lambda: scaled.deployed().options.replicas > 1)
        os.kill(first, signal.SIGCONT)
        await asyncio.gather(*waiting)
        await until(lambda: scaled.deployed().options.replicas == 1)
        assert (await server.deployment())["replicas"] == [first]
