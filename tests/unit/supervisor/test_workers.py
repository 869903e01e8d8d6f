"""Worker processes: started, talked to, dead in every way that there is, stopped; and the spare one."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from supervised import is_running, until, written

from tfserve.config import Settings
from tfserve.errors import Invalid, Unavailable
from tfserve.ipc.messages import BecomeModel, BecomeScripts, ModelLoaded, RunScript, ScriptEnded
from tfserve.supervisor.events import Revision
from tfserve.supervisor.processes import worker as workers
from tfserve.supervisor.processes.child import OWNER, Role, living
from tfserve.supervisor.processes.launchers import Spare
from tfserve.supervisor.processes.output import JobOutput
from tfserve.supervisor.processes.worker import Worker, WorkerDied
from tfserve.supervisor.processes.workshop import Workshop

DIES_AT_ONCE = "/nowhere"
"""As PYTHONHOME it ends every interpreter before its first line."""


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LINE_GRACE_S", 0.1)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    settings = Settings(data_dir=str(tmp_path), max_queue=7, database_url="postgresql://secret@host/db")
    return Workshop(settings, "owner:1", callers_umask=0o027)


@asynccontextmanager
async def scripts(workshop: Workshop, folder: Path) -> AsyncIterator[Worker]:
    """A worker that runs scripts."""
    worker = await workshop.start(warm=False)
    try:
        await worker.ask(BecomeScripts(workspace="w"))
        yield worker
    finally:
        worker.kill("the test ends")
        await worker.child.ended


async def run(worker: Worker, text: str, job: int = 0) -> ScriptEnded:
    answer = await worker.ask(RunScript(job=job, workspace="w", folder="/", text=text))
    assert isinstance(answer, ScriptEnded)
    return answer


async def death_of(worker: Worker, text: str) -> WorkerDied:
    with pytest.raises(WorkerDied) as died:
        await run(worker, text)
    return died.value


# --- at work


async def test_a_worker_has_the_role_and_the_workspace_of_its_first_question(
    workshop: Workshop, tmp_path: Path
) -> None:
    worker = await workshop.start(warm=False)
    assert worker.child.role == Role.SPARE
    await worker.ask(BecomeScripts(workspace="w"))
    assert (worker.child.role, worker.child.workspace) == (Role.SCRIPT, "w")
    assert (await run(worker, "x = 6 * 7")).variables == b'{"x":42}'
    assert worker.memory_bytes() > 1_000_000
    await worker.stop()
    assert worker.child.ended.result().code == 0
    assert worker.memory_bytes() == 0


async def test_what_a_worker_refuses_is_raised_and_it_continues(workshop: Workshop, tmp_path: Path) -> None:
    worker = await workshop.start(warm=False)
    with pytest.raises(Invalid, match=r"^a worker without a role received RunScript$"):
        await run(worker, "x = 1")
    loaded = await worker.ask(BecomeModel(workspace="w", path=str(written(tmp_path / "m.echo"))))
    assert isinstance(loaded, ModelLoaded)
    assert worker.child.role == Role.MODEL
    await worker.stop()


async def test_a_worker_sees_the_settings_and_nothing_that_is_private(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFSERVE_DATABASE_URL", "postgresql://secret@host/db")
    monkeypatch.setenv("TFSERVE_TOKEN", "tfs_secret")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "12345")
    monkeypatch.setenv("OF_THE_CALLER", "1")
    names = ["TFSERVE_MAX_QUEUE", OWNER, "MALLOC_TRIM_THRESHOLD_", "OF_THE_CALLER", "MALLOC_MMAP_THRESHOLD_"]
    async with scripts(workshop, tmp_path) as worker:
        ended = await run(
            worker,
            f"import os\nfound = [os.environ[n] for n in {names!r}]\nmask = oct(os.umask(0))\n"
            "private = [n for n, value in os.environ.items() if 'secret' in value]",
        )
    variables = json.loads(ended.variables)
    assert variables["found"] == ["7", "owner:1", "12345", "1", str(32 * 1024 * 1024)]
    assert variables["mask"] == "0o27", "scripts write where callers say, as if the caller had started them"
    assert variables["private"] == []


async def test_what_it_prints_goes_to_the_job_while_there_is_one(workshop: Workshop, tmp_path: Path) -> None:
    async with scripts(workshop, tmp_path) as worker:
        output = worker.output = JobOutput(tmp_path / "0.out", 1000)
        await run(worker, "import sys; print('to out'); print('to err', file=sys.stderr)")
        worker.drain()
        assert (output.tail(1), output.tail(2)) == ("to out\n", "to err\n")
        worker.output = None
        output.close()


# --- deaths


async def test_a_worker_that_exits_is_reported_with_its_code_and_its_last_lines(
    workshop: Workshop, tmp_path: Path
) -> None:
    async with scripts(workshop, tmp_path) as worker:
        died = await death_of(worker, "import os, sys\nprint('last words', file=sys.stderr)\nos._exit(5)")
    assert (died.exit.code, died.exit.signal) == (5, None)
    assert "last words" in died.last_lines
    assert not died.shows_fault
    assert str(died).startswith("it exited with code 5")
    with pytest.raises(WorkerDied, match="exited with code 5"):
        await run(worker, "x = 1")


async def test_a_fault_is_reported_with_the_dump_of_the_guilty_thread(workshop: Workshop, tmp_path: Path) -> None:
    async with scripts(workshop, tmp_path) as worker:
        died = await death_of(worker, "import faulthandler\ndef guilty(): faulthandler._sigsegv()\nguilty()")
    assert died.exit.signal == signal.SIGSEGV
    assert died.shows_fault
    assert "Fatal Python error: Segmentation fault" in died.last_lines
    assert "in guilty" in died.last_lines


async def test_the_last_lines_of_a_job_are_reported_before_those_of_the_process(
    workshop: Workshop, tmp_path: Path
) -> None:
    async with scripts(workshop, tmp_path) as worker:
        await run(worker, "print('of nobody')")
        worker.drain()
        output = worker.output = JobOutput(tmp_path / "0.out", 1000)
        died = await death_of(worker, "print('of the job', flush=True)\nimport os; os.kill(os.getpid(), 15)")
        assert died.last_lines == "of the job\n"
        assert died.exit.signal == signal.SIGTERM
        output.close()


async def test_all_who_wait_for_a_worker_that_is_killed_are_reported_why(workshop: Workshop, tmp_path: Path) -> None:
    async with scripts(workshop, tmp_path) as worker:
        waiting = [asyncio.ensure_future(run(worker, "import time; time.sleep(1000)", job)) for job in range(2)]
        await asyncio.sleep(0)
        worker.kill("it took too long")
        for each in await asyncio.gather(*waiting, return_exceptions=True):
            assert str(each).startswith("this server killed it because it took too long")
    assert not worker.alive


CLOSES = """
import ctypes, re, sys
sys.setswitchinterval(9)
shutdown = ctypes.PyDLL(None).shutdown  # keeps the GIL, so the thread that reads does not notice it
for fd in range(3, 100):
    shutdown(fd, 2)
"""
HOLDS_THE_INTERPRETER = "import re\nre.match('(a+)+$', 'a' * 60 + 'b')"


async def test_a_worker_whose_connection_was_closed_and_that_lives_on_is_killed(
    workshop: Workshop, tmp_path: Path
) -> None:
    async with scripts(workshop, tmp_path) as worker:
        died = await death_of(worker, f"{CLOSES}{HOLDS_THE_INTERPRETER}")
    assert died.exit.killed_because == "its connection was closed"


async def test_a_worker_that_can_not_answer_any_more_ends_itself(workshop: Workshop, tmp_path: Path) -> None:
    async with scripts(workshop, tmp_path) as worker:
        died = await death_of(worker, "import os; os.closerange(3, 100)")
    assert died.exit.code == os.EX_IOERR
    assert "its connection to the supervisor was closed" in died.last_lines


async def test_a_child_that_holds_the_connection_does_not_hide_the_death(workshop: Workshop, tmp_path: Path) -> None:
    """C code has forked it, so it has every open file, and no one closes the connection in it."""
    forks = (
        "import ctypes, os, time\nchild = ctypes.CDLL(None).fork()\nif child == 0:\n  os.setsid()\n  time.sleep(1000)"
    )
    async with scripts(workshop, tmp_path) as worker:
        child = json.loads((await run(worker, forks)).variables)["child"]
        waiting = asyncio.ensure_future(run(worker, "import time; time.sleep(1000)"))
        await asyncio.sleep(0)
        os.kill(worker.child.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied):
            await asyncio.wait_for(waiting, 5)
        os.kill(child, signal.SIGKILL)


async def test_a_worker_that_does_not_stop_in_time_is_killed(workshop: Workshop, tmp_path: Path) -> None:
    async with scripts(workshop, tmp_path) as worker:
        waiting = asyncio.ensure_future(run(worker, "import time; time.sleep(1000)"))
        await asyncio.sleep(0)
        await worker.stop(grace_s=0.05)
        assert worker.child.ended.result().killed_because == "it did not stop in time"
        with pytest.raises(WorkerDied):
            await waiting


async def test_a_worker_that_dies_before_it_is_ready_is_reported(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONHOME", DIES_AT_ONCE)
    with pytest.raises(WorkerDied, match="exited with code 1") as died:
        await workshop.start(warm=False)
    assert "No module named 'encodings'" in died.value.last_lines


async def test_nobody_waits_for_a_worker_that_is_being_started(workshop: Workshop) -> None:
    starting = asyncio.ensure_future(workshop.start(warm=False))
    await until(living)
    for _ in range(20):  # until it is connected
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await until(lambda: not living())


# --- the spare


@pytest.fixture
def no_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the workers TensorFlow is not installed, so that a warm one is ready within a second."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "tensorflow.py").write_text("raise ModuleNotFoundError(__name__, name=__name__)")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "modules"), os.environ.get("PYTHONPATH", "")]))


@asynccontextmanager
async def spare(workshop: Workshop, *, is_kept: bool = True) -> AsyncIterator[Spare]:
    kept = Spare(workshop, is_kept=is_kept, changed=Revision())
    try:
        yield kept
    finally:
        await kept.close()
        await until(lambda: not living())


@pytest.mark.usefixtures("no_tensorflow")
async def test_the_spare_is_taken_at_once_and_another_one_takes_its_place(workshop: Workshop) -> None:
    async with spare(workshop) as kept:
        kept.fill()
        kept.fill()
        await until(lambda: kept.here.worker)
        first = kept.here.worker
        taken = await kept.take(needs_tensorflow=False)
        assert taken is first
        await until(lambda: kept.here.worker)
        assert kept.here.worker is not first
        taken.kill("the test ends")
        await taken.child.ended
        assert kept.here.worker.alive, "it is not the spare any more that has ended"


@pytest.mark.usefixtures("no_tensorflow")
async def test_who_needs_tensorflow_waits_for_the_spare_that_is_on_its_way(workshop: Workshop) -> None:
    async with spare(workshop) as kept:
        kept.fill()
        for_script, for_model = await asyncio.gather(
            kept.take(needs_tensorflow=False), kept.take(needs_tensorflow=True)
        )
        cold = await kept.start_cold()
        assert len({each.child.pid for each in (for_script, for_model, cold)}) == 3
        for each in (for_script, for_model, cold):
            await each.stop()


@pytest.mark.usefixtures("no_tensorflow")
async def test_a_light_spare_is_kept_for_the_runtime_that_was_needed_last(workshop: Workshop) -> None:
    async with spare(workshop) as kept:
        first = await kept.take_light("litert")
        assert kept.here.light_worker is None
        kept.fill()
        await until(lambda: kept.here.light_worker)
        ready = kept.here.light_worker
        assert await kept.take_light("litert") is ready
        kept.fill()
        await until(lambda: kept.here.light_worker)
        unused = kept.here.light_worker
        other = await kept.take_light("onnxruntime")
        await unused.child.ended
        for each in (first, ready, other):
            await each.stop()


@pytest.mark.usefixtures("no_tensorflow")
async def test_a_spare_that_dies_is_replaced(workshop: Workshop) -> None:
    async with spare(workshop) as kept:
        kept.fill()
        await until(lambda: kept.here.worker)
        first = kept.here.worker
        os.kill(first.child.pid, signal.SIGKILL)
        await first.child.ended
        await until(lambda: kept.here.worker)
        assert kept.here.worker is not first
        assert is_running(kept.here.worker.child.pid)


async def test_without_a_spare_every_worker_is_a_new_one(workshop: Workshop) -> None:
    async with spare(workshop, is_kept=False) as kept:
        kept.fill()
        worker = await kept.take(needs_tensorflow=False)
        assert kept.here.worker is None
        await worker.stop()


async def test_a_spare_that_can_not_be_started_is_logged_and_workers_are_still_requested(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with spare(workshop) as kept:
        with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):
            broken.setenv("PYTHONHOME", DIES_AT_ONCE)
            kept.fill()
            await until(lambda: "could not start a spare worker: it exited with code 1" in caplog.text)
        worker = await kept.start_cold()
        await worker.stop()


async def test_a_machine_that_starts_no_process_is_reported(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with spare(workshop, is_kept=False) as kept:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(Unavailable, match="Cannot start another process on this machine: No such file"):
            await kept.take(needs_tensorflow=False)


async def test_the_server_stops_while_the_spare_is_being_started(workshop: Workshop) -> None:
    async with spare(workshop) as kept:
        kept.fill()
        await asyncio.sleep(0)
    assert kept.here.worker is None
