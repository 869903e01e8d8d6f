"""Runs the scripts of a workspace: in a process of its own, or in a thread of the host that thread workspaces share."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from tfserve.errors import Internal, TimedOut
from tfserve.ipc.messages import (
    READING,
    BecomeHost,
    BecomeScripts,
    ClearVariables,
    DropWorkspace,
    Interrupt,
    JobKind,
    JobState,
    OpenWorkspace,
    Outcome,
    ReadVariables,
    RunScript,
    ScriptJob,
    Variables,
)
from tfserve.supervisor.jobs.job import Job
from tfserve.supervisor.processes.child import Exit
from tfserve.supervisor.processes.output import OutputPipes
from tfserve.supervisor.processes.restarts import Restarts
from tfserve.supervisor.processes.worker import Spare, Worker, WorkerDied

NO_VARIABLES = b"{}"
HOST_GRACE_S = 5.0
READ_S = 10.0


class _CountsDeaths:
    """What deaths mean for scripts: after several in a row the workspace is given up."""

    def __init__(self, restarts: Restarts) -> None:
        self._restarts = restarts

    def may_repeat(self, job: Job) -> bool:
        return job.may_be_repeated

    def may_share(self, _: Job) -> bool:
        return False

    def worked(self) -> None:
        self._restarts.worked()

    def died(self, _: Sequence[Job], exit_: Exit) -> str | None:
        self._restarts.died(now=time.monotonic(), lived_s=exit_.lived_s)
        return f"its worker died {self._restarts.deaths} times in a row" if self._restarts.given_up else None


class ScriptProcess(_CountsDeaths):
    """A process of the workspace's own, started at its first script, and again after a death."""

    can_kill = True

    def __init__(self, name: str, folder: Path, *, spare: Spare, restarts: Restarts) -> None:
        super().__init__(restarts)
        self.worker: Worker | None = None
        self.starting = False
        self._name = name
        self._folder = folder
        self._spare = spare
        self._running: Job | None = None

    @property
    def busy(self) -> bool:
        return self._running is not None

    async def run(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        return [await self._run(job) for job in jobs]

    async def _run(self, job: Job) -> Outcome:
        if job.kind == JobKind.CLEAR and not self._usable():
            return Outcome(state=JobState.SUCCEEDED, result=b"true", variables=NO_VARIABLES)
        self._running = job
        try:
            worker = await self._started()
            if job.ending is not None:
                return Outcome(state=JobState.CANCELLED, result=job.no_result)
            worker.drain()  # what was printed between the jobs belongs to nobody
            worker.output = job.output
            return await run_script(worker, job, self._name, self._folder)
        finally:
            self._running = None
            if self.worker is not None:
                self.worker.drain()
                self.worker.output = None

    def interrupt(self, job: Job) -> None:
        if self.worker is not None and self._running is job:
            self.worker.tell(Interrupt(job=job.number, workspace=self._name))
            # What the script started must not outlive it.
            job.ended.add_done_callback(lambda _: self._end_descendants())

    def kill(self, because: str) -> None:
        if self.worker is not None:
            self.worker.kill(because)

    async def read_variables(self, names: list[str] | None, limit_bytes: int) -> Variables | None:
        """Their full values, or None while there is no idle worker that has them."""
        if not self._usable() or self.busy or self.worker is None:
            return None
        return await read_variables(self.worker, self._name, names, limit_bytes)

    async def restart(self) -> None:
        """Ends the process; the next job starts a fresh one."""
        worker, self.worker = self.worker, None
        if worker is not None and worker.alive:
            await worker.stop(grace_s=0.0)

    def _usable(self) -> bool:
        return self.worker is not None and self.worker.alive

    async def _started(self) -> Worker:
        if self.worker is not None and self.worker.alive:
            return self.worker
        self.starting = True
        try:
            await asyncio.sleep(self._restarts.delay_s(time.monotonic()))
            self.worker = await self._spare.take(needs_tensorflow=False)
            await self.worker.ask(BecomeScripts(workspace=self._name, folder=str(self._folder)))
            return self.worker
        finally:
            self.starting = False

    def _end_descendants(self) -> None:
        if self.worker is not None:
            self.worker.child.kill_descendants()


class Host:
    """The one process in which all thread workspaces run."""

    def __init__(self, spare: Spare) -> None:
        self.worker: Worker | None = None
        self._spare = spare
        self._starting: asyncio.Task[Worker] | None = None

    async def started(self) -> Worker:
        if self.worker is not None and self.worker.alive:
            return self.worker
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
        return await asyncio.shield(self._starting)

    async def close(self) -> None:
        if self.worker is not None:
            await self.worker.stop(grace_s=0.0)

    async def _start(self) -> Worker:
        try:
            worker = await self._spare.take(needs_tensorflow=False)
            await worker.ask(BecomeHost())
            self.worker = worker
            return worker
        finally:
            self._starting = None


class ScriptThread(_CountsDeaths):
    """A thread of the host: light, but it can't be killed, and it shares the fate of the host."""

    can_kill = False

    def __init__(self, key: str, folder: Path, *, host: Host, restarts: Restarts) -> None:
        """`key` is what the host knows the workspace by: never given twice, unlike its name."""
        super().__init__(restarts)
        self.starting = False
        self._host = host
        self._key = key
        self._folder = folder
        self._running: Job | None = None
        #: the host in which the workspace has been opened
        self._worker: Worker | None = None
        self._pipes: OutputPipes | None = None

    @property
    def worker(self) -> Worker | None:
        return self._worker if self._worker is not None and self._worker.alive else None

    @property
    def busy(self) -> bool:
        return self._running is not None

    async def run(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        return [await self._run(job) for job in jobs]

    async def _run(self, job: Job) -> Outcome:
        self._running = job
        self.starting = self.worker is None
        try:
            await asyncio.sleep(self._restarts.delay_s(time.monotonic()))
            worker, pipes = await self._opened()
            self.starting = False
            if job.ending is not None:
                return Outcome(state=JobState.CANCELLED, result=job.no_result)
            return await self._run_in(worker, pipes, job)
        finally:
            self.starting = False
            self._running = None

    async def _run_in(self, worker: Worker, pipes: OutputPipes, job: Job) -> Outcome:
        pipes.drain()  # what was printed between the jobs belongs to nobody
        pipes.output = job.output
        try:
            return await run_script(worker, job, self._key, self._folder)
        except WorkerDied as death:
            pipes.drain()
            raise WorkerDied(death.exit, _last_lines(job, death)) from None
        finally:
            pipes.drain()
            pipes.output = None

    async def _opened(self) -> tuple[Worker, OutputPipes]:
        """The host, in which this workspace is open, and what it prints into there."""
        worker = await self._host.started()
        if self._worker is not worker or self._pipes is None:
            pipes = OutputPipes()
            with pipes.offered() as (stdout, stderr):
                await worker.ask(OpenWorkspace(workspace=self._key, stdout=stdout, stderr=stderr))
            self._worker, self._pipes = worker, pipes
        return worker, self._pipes

    def interrupt(self, job: Job) -> None:
        if self.worker is not None:
            self.worker.tell(Interrupt(job=job.number, workspace=self._key))

    def kill(self, because: str) -> None:
        """A thread can't be killed."""

    async def read_variables(self, names: list[str] | None, limit_bytes: int) -> Variables | None:
        if self.worker is None or self.busy:
            return None
        return await read_variables(self.worker, self._key, names, limit_bytes)

    async def restart(self) -> None:
        """The host forgets the workspace; its next script starts with a fresh thread and no variables.

        A host that does not even answer is held up by one of its threads: it is ended, for the sake of the others.
        """
        worker, self._worker, self._pipes = self.worker, None, None
        if worker is None:
            return
        try:
            async with asyncio.timeout(HOST_GRACE_S):
                await worker.ask(DropWorkspace(workspace=self._key))
        except TimeoutError:
            worker.kill("one of its threads holds up all others")
            await asyncio.shield(worker.child.ended)
        except WorkerDied:
            pass


def _last_lines(job: Job, death: WorkerDied) -> str:
    """Those of the job; and of the host, whose are nobody's, if only they show what it died of."""
    own = job.output.last_lines
    if own and (job.output.shows_fault or not death.shows_fault):
        return own
    return own + death.last_lines


async def read_variables(worker: Worker, key: str, names: list[str] | None, limit_bytes: int) -> Variables | None:
    """None when the worker has died. Raises what the worker answers with, `TimedOut` among it."""
    asking = asyncio.ensure_future(worker.ask(ReadVariables(workspace=key, names=names, limit_bytes=limit_bytes)))
    done, _ = await asyncio.wait([asking], timeout=READ_S)
    if not done:  # a __str__ of the caller's may take for ever
        worker.tell(Interrupt(job=READING, workspace=key))
        done, _ = await asyncio.wait([asking], timeout=HOST_GRACE_S)
        if not done:
            asking.cancel()
            raise TimedOut("The variables can't be read: turning one of them into JSON does not come to an end.")
    with contextlib.suppress(WorkerDied):
        return await asking
    return None


async def run_script(worker: Worker, job: Job, workspace: str, folder: Path) -> Outcome:
    """Raises `WorkerDied`."""
    if job.kind == JobKind.CLEAR:
        await worker.ask(ClearVariables(workspace=workspace))
        return Outcome(state=JobState.SUCCEEDED, result=b"true", variables=NO_VARIABLES)
    script = job.request.decode()
    if not isinstance(script, ScriptJob):
        raise Internal(f"{job.kind} is not a script")
    answer = await worker.ask(
        RunScript(
            job=job.number, workspace=workspace, folder=str(folder), file=script.file, text=script.text,
            clear=script.clear,
        )
    )  # fmt: skip
    result = b"true" if answer.state == JobState.SUCCEEDED else b"false"
    return Outcome(state=answer.state, result=result, error=answer.error, variables=answer.variables)
