"""Workers on another machine: real workers behind real bridges."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from tests.unit.cluster.bridged import Actors, Head, heads
from tfserve.ipc.messages import BecomeHost, BecomeModel, BecomeScripts, ModelOptions, OpenWorkspace, RunScript
from tfserve.supervisor.cluster.remote_child import RemoteChild
from tfserve.supervisor.processes.child import Exit
from tfserve.supervisor.processes.output import JobOutput
from tfserve.supervisor.processes.worker import Worker, WorkerDied


async def scripts(head: Head) -> Worker:
    worker = await head.start()
    await worker.ask(BecomeScripts(workspace="w"))
    return worker


async def run(worker: Worker, text: str, *, job: int = 0) -> bytes:
    """The variables after a script."""
    with TemporaryDirectory() as folder:
        return (await worker.ask(RunScript(job=job, workspace="w", folder=folder, text=text))).variables


def bridge_of(worker: Worker) -> RemoteChild:
    assert isinstance(worker.child, RemoteChild)
    return worker.child


async def end_of(worker: Worker) -> Exit:
    return await worker.child.ended


async def test_a_script_runs_on_the_node_with_its_output_in_order(tmp_path: Path) -> None:
    async with heads(tmp_path) as (_, head):
        worker = await scripts(head)
        worker.output = output = JobOutput(tmp_path / "out", 10**7)
        text = "import sys\nfor n in range(3000): print(n)\nprint('late', file=sys.stderr)\ndel sys"
        assert await run(worker, text) == b'{"n":2999}'
        written = (tmp_path / "out").read_bytes()
        assert written.replace(b"late\n", b"") == b"".join(b"%d\n" % n for n in range(3000)), "before the response"
        assert output.tail(2) == "late\n"
        assert worker.node == "n1"
        await worker.stop()
        assert (await end_of(worker)).code == 0


async def test_a_killed_worker_ends_with_its_signal_its_memory_and_its_last_lines(tmp_path: Path) -> None:
    async with heads(tmp_path) as (_, head):
        worker = await scripts(head)
        with pytest.raises(WorkerDied) as died:
            await run(worker, "import os, signal\nprint('the end')\nos.kill(os.getpid(), signal.SIGKILL)")
        assert died.value.exit.signal_name == "SIGKILL"
        assert died.value.exit.peak_memory_bytes > 10_000_000
        assert died.value.last_lines == "the end\n"


async def test_a_worker_that_this_server_kills_says_why(tmp_path: Path) -> None:
    async with heads(tmp_path) as (_, head):
        worker = await scripts(head)
        worker.kill("a test ends")
        assert (await end_of(worker)).sentence.startswith("this server killed it because a test ends (peak memory")


async def test_a_worker_ends_with_its_actor(tmp_path: Path) -> None:
    async with heads(tmp_path) as (actors, head):
        worker = await scripts(head)
        process = psutil.Process(worker.child.pid)
        os.kill(actors.pid(bridge_of(worker).worker), signal.SIGKILL)
        assert (await end_of(worker)).sentence.startswith("lost: its actor on node n1 is gone")
        await asyncio.to_thread(process.wait, 10)
        assert not process.is_running()


async def test_everything_on_a_node_is_lost_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfserve.supervisor.cluster.nodes.REOPEN_S", 0.1)
    async with heads(tmp_path) as (_, head):
        workers = [await scripts(head) for _ in range(2)]
        processes = [psutil.Process(each.child.pid) for each in workers]
        assert head.line is not None
        head.line.abort()
        assert [(await end_of(each)).sentence for each in workers] == ["lost: node 127.0.0.1 is gone"] * 2
        for process in processes:  # their bridges are refused when they connect again
            await asyncio.to_thread(process.wait, 20)


async def test_a_job_survives_connections_that_break(tmp_path: Path) -> None:
    async with heads(tmp_path) as (_, head):
        worker = await scripts(head)
        worker.output = JobOutput(tmp_path / "out", 10**7)
        for round_ in range(3):
            child = bridge_of(worker)
            assert child._connection is not None
            child._connection.abort()
            assert await run(worker, f"x = {round_}\nprint(x)", job=round_) == b'{"x":%d}' % round_
        assert (tmp_path / "out").read_bytes() == b"0\n1\n2\n"
        await worker.stop()


async def test_workspaces_of_a_host_have_their_own_output(tmp_path: Path) -> None:
    async with heads(tmp_path) as (_, head):
        worker = await head.start()
        (tmp_path / "scripts").mkdir()
        await worker.ask(BecomeHost())
        outputs = [JobOutput(tmp_path / name, 10**6) for name in ("a", "b")]
        for name, output in zip("ab", outputs, strict=True):
            async with worker.child.offer_pipes() as offered:
                offered.printer.output = output
                await worker.ask(OpenWorkspace(workspace=name, stdout=offered.stdout, stderr=offered.stderr))
        for name in "ab":
            await worker.ask(
                RunScript(job=0, workspace=name, folder=str(tmp_path / "scripts"), text=f"print('of {name}')")
            )
        assert [output.tail(1) for output in outputs] == ["of a\n", "of b\n"]
        await worker.stop()


async def model(head: Head, folder: Path) -> tuple[Worker, BecomeModel]:
    """A worker that serves deployment 7."""
    (folder / "m.echo").write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')
    worker = await head.start()
    become = BecomeModel(workspace="w", path=str(folder / "m.echo"), options=ModelOptions(runtime="echo"), deployment=7)
    await worker.ask(become)
    return worker, become


async def next_head(first: Head, actors: Actors, folder: Path, *, epoch: int = 2) -> Head:
    """The head starts again at the same port."""
    port = first.port.number
    await first.die()
    head = Head(folder, actors, epoch=epoch, port=port)
    await head.begin()
    return head


async def test_a_new_head_adopts_a_model_that_still_serves(tmp_path: Path) -> None:
    async with heads(tmp_path) as (actors, first):
        worker, _ = await model(first, tmp_path)
        head = await next_head(first, actors, tmp_path)
        try:
            found = await head.adoption.find(7, _runs_echo)
            assert found is not None
            assert found.worker.child.pid == worker.child.pid, "the same process"
            assert found.become.deployment == 7
            assert found.loaded.runtime == "echo"
            os.kill(found.worker.child.pid, signal.SIGKILL)
            assert (await end_of(found.worker)).signal_name == "SIGKILL", "it is watched as before"
        finally:
            await head.die()


async def test_a_new_head_ends_what_it_does_not_need(tmp_path: Path) -> None:
    async with heads(tmp_path) as (actors, first):
        loaded, _ = await model(first, tmp_path)
        script = await scripts(first)
        processes = [psutil.Process(each.child.pid) for each in (loaded, script)]
        head = await next_head(first, actors, tmp_path)
        try:
            assert await head.adoption.find(8, _anything) is None
            assert await head.adoption.find(7, _nothing) is None, "it has another runtime"
            for process in processes:
                await asyncio.to_thread(process.wait, 20)
        finally:
            await head.die()


async def _runs_echo(become: BecomeModel) -> bool:
    return become.options.runtime == "echo"


async def _anything(_: BecomeModel) -> bool:
    return True


async def _nothing(_: BecomeModel) -> bool:
    return False
