"""Runs the scripts of a workspace, in its own process or in a thread of the host that thread workspaces share."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from tfserve.errors import Internal, TimedOut
from tfserve.ipc.messages import (
    READING,
    BecomeHost,
    BecomeScripts,
    ClearVariables,
    Demand,
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
from tfserve.supervisor.processes.launchers import ANYWHERE, FullNode, Spare
from tfserve.supervisor.processes.output import Printer
from tfserve.supervisor.processes.restarts import Restarts
from tfserve.supervisor.processes.worker import Worker, WorkerDied

CLEARED = Outcome(state=JobState.SUCCEEDED, result=b"true", variables=b"{}")
HOST_GRACE_S = 5.0
READ_S = 10.0


class ScriptRunner(ABC):
    """Runs the scripts of one workspace. Its worker starts with the first script, and again after a death."""

    can_kill: bool

    def __init__(self, key: str, folder: Path, restarts: Restarts) -> None:
        """`key` identifies the workspace in its worker: unlike its name, it is never used again."""
        self.starting = False
        self._key = key
        self._folder = folder
        self._restarts = restarts
        self._running: Job | None = None
        self._worker: Worker | None = None

    @property
    def worker(self) -> Worker | None:
        """The living worker that has the variables."""
        return self._worker if self._worker is not None and self._worker.alive else None

    @property
    def runs_where_it_stops(self) -> bool:
        """Whether a job runs on a machine that is about to stop. The next one starts on another."""
        return self._running is not None and self.worker is not None and self.worker.node_stops

    async def run(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        return [await self._run(job) for job in jobs]

    def may_repeat(self, job: Job) -> bool:
        return job.may_be_repeated

    def may_share(self, _: Job) -> bool:
        return False

    def worked(self) -> None:
        self._restarts.worked()

    def died(self, _: Sequence[Job], exit_: Exit) -> str | None:
        """After several deaths in a row the workspace is given up."""
        self._restarts.died(now=time.monotonic(), lived_s=exit_.lived_s)
        return f"its worker died {self._restarts.deaths} times in a row" if self._restarts.given_up else None

    def interrupt(self, job: Job) -> None:
        if self.worker is not None and self._running is job:
            self.worker.notify(Interrupt(job=job.number, workspace=self._key))

    @abstractmethod
    def kill(self, because: str) -> None:
        """Ends the process that runs the job, if it can be killed."""

    @abstractmethod
    async def restart(self) -> None:
        """The next script starts without variables."""

    @abstractmethod
    async def _start(self) -> tuple[Worker, Printer]:
        """The worker in which the workspace is open, a new one if it has died, and where its output arrives."""

    async def read_variables(self, names: list[str] | None, limit_bytes: int) -> Variables | None:
        """Their full values; None while no idle worker has them, and when it dies.

        Raises the error that the worker replies with, such as `TimedOut`.
        """
        worker = self.worker
        if worker is None or self._running is not None:
            return None
        message = ReadVariables(workspace=self._key, names=names, limit_bytes=limit_bytes)
        reading = asyncio.ensure_future(worker.ask(message))
        done, _ = await asyncio.wait([reading], timeout=READ_S)
        if not done:  # a script's own __str__ may never return
            worker.notify(Interrupt(job=READING, workspace=self._key))
            done, _ = await asyncio.wait([reading], timeout=HOST_GRACE_S)
            if not done:
                reading.cancel()
                raise TimedOut("The variables can't be read: turning one of them into JSON does not come to an end.")
        with contextlib.suppress(WorkerDied):
            return await reading
        return None

    async def _run(self, job: Job) -> Outcome:
        if job.kind == JobKind.CLEAR and self.worker is None:
            return CLEARED
        self._running = job
        try:
            worker, printer = await self._started()
            if job.ending is not None:
                return Outcome(state=JobState.CANCELLED, result=job.no_result)
            return await self._run_in(worker, printer, job)
        finally:
            self._running = None

    async def _started(self) -> tuple[Worker, Printer]:
        self.starting = self.worker is None
        try:
            if self.starting:
                await asyncio.sleep(self._restarts.delay_s(time.monotonic()))
            return await self._start()
        finally:
            self.starting = False

    async def _run_in(self, worker: Worker, printer: Printer, job: Job) -> Outcome:
        """Raises `WorkerDied`."""
        printer.drain()  # output between jobs belongs to no job
        printer.output = job.output
        try:
            return await self._request(worker, job)
        finally:
            printer.drain()
            printer.output = None

    async def _request(self, worker: Worker, job: Job) -> Outcome:
        if job.kind == JobKind.CLEAR:
            await worker.ask(ClearVariables(workspace=self._key))
            return CLEARED
        script = job.request.decode()
        if not isinstance(script, ScriptJob):
            raise Internal(f"{job.kind} is not a script")
        response = await worker.ask(
            RunScript(
                job=job.number, workspace=self._key, folder=str(self._folder), file=script.file, text=script.text,
                clear=script.clear, traceparent=job.traceparent,
            )
        )  # fmt: skip
        result = b"true" if response.state == JobState.SUCCEEDED else b"false"
        return Outcome(
            state=response.state, result=result, error=response.error, variables=response.variables,
            types=response.types,
        )  # fmt: skip


class ProcessScripts(ScriptRunner):
    """Scripts in a process of their own."""

    can_kill = True

    def __init__(self, name: str, folder: Path, *, spare: Spare, restarts: Restarts, demand: Demand = ANYWHERE) -> None:
        super().__init__(name, folder, restarts)
        self._spare = spare
        self._demand = demand

    async def _run(self, job: Job) -> Outcome:
        """A script whose files do not fit onto the disk of a node runs on another, unless there are variables."""
        is_new = self.worker is None
        try:
            return await super()._run(job)
        except FullNode:
            if not is_new:
                raise
            await self.restart()
            if not self._spare.has_room_elsewhere(self._demand):
                raise
            return await self._run(job)

    def interrupt(self, job: Job) -> None:
        super().interrupt(job)
        if self._running is job:  # what the script started must not outlive it
            job.ended.add_done_callback(lambda _: self._kill_descendants())

    def kill(self, because: str) -> None:
        if self.worker is not None:
            self.worker.kill(because)

    async def restart(self) -> None:
        worker, self._worker = self.worker, None
        if worker is not None:
            await worker.stop(grace_s=0.0)

    async def _start(self) -> tuple[Worker, Printer]:
        if self.worker is not None and self.worker.node_stops:
            await self.restart()
        worker = self.worker
        if worker is None:
            worker = self._worker = await self._new_worker()
        return worker, worker

    async def _new_worker(self) -> Worker:
        """A worker that is lost with its node before it runs anything is replaced once."""
        worker = await self._spare.take(needs_tensorflow=False, demand=self._demand)
        try:
            await worker.ask(BecomeScripts(workspace=self._key))
        except WorkerDied as death:
            if death.exit.lost is None:
                raise
            worker = await self._spare.take(needs_tensorflow=False, demand=self._demand)
            await worker.ask(BecomeScripts(workspace=self._key))
        return worker

    def _kill_descendants(self) -> None:
        if self.worker is not None:
            self.worker.child.kill_descendants()


class ThreadHost:
    """The process in which all thread workspaces run."""

    def __init__(self, spare: Spare) -> None:
        self.worker: Worker | None = None
        self._spare = spare
        self._starting: asyncio.Task[Worker] | None = None

    async def started(self) -> Worker:
        if self.worker is not None and self.worker.alive and not self.worker.node_stops:
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


class ThreadScripts(ScriptRunner):
    """Scripts in a thread of the host. It starts faster, but can't be killed and dies with the host."""

    can_kill = False

    def __init__(self, key: str, folder: Path, *, host: ThreadHost, restarts: Restarts) -> None:
        super().__init__(key, folder, restarts)
        self._host = host
        self._pipes: Printer | None = None

    def kill(self, because: str) -> None:
        """A thread can't be killed."""

    async def restart(self) -> None:
        """A host that does not respond is blocked by one of its threads: it is killed for the sake of the others."""
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

    async def _start(self) -> tuple[Worker, Printer]:
        worker = await self._host.started()
        if self._worker is not worker or self._pipes is None:
            async with worker.child.offer_pipes() as offered:
                request = OpenWorkspace(workspace=self._key, stdout=offered.stdout, stderr=offered.stderr)
                await worker.ask(request)
            self._worker, self._pipes = worker, offered.printer
        return worker, self._pipes

    async def _run_in(self, worker: Worker, printer: Printer, job: Job) -> Outcome:
        try:
            return await super()._run_in(worker, printer, job)
        except WorkerDied as death:
            raise WorkerDied(death.exit, _last_lines(job, death)) from None


def _last_lines(job: Job, death: WorkerDied) -> str:
    """Those of the job, and those of the host if only they show why it died: they belong to no job."""
    own = job.output.last_lines
    if own and (job.output.shows_fault or not death.shows_fault):
        return own
    return own + death.last_lines
