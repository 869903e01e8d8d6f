"""The supervisor in a test's event loop: every part but the web processes, with a real database and real workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tfserve.config import Settings
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import (
    CreateWorkspace,
    DeployJob,
    DrainModel,
    GetModels,
    GetWorkspace,
    JobRequest,
    JobStatus,
    Message,
    ModelChanged,
    ModelOptions,
    Outcome,
    PredictJob,
    ReadCounters,
    ReadInFlight,
    ScriptJob,
    SubmitJob,
    UpdateJob,
    WaitOutput,
    WakeModel,
)
from tfserve.ipc.metrics import WebCounts
from tfserve.web.predictions.live_models import LiveModels
from tfserve.web.predictions.model_messages import in_flight
from tfserve.web.predictions.request import PredictionRequest, PredictionResult
from tfserve.web.supervisor_client import SupervisorClient

DEADLINE_S = 30.0
OWNER = "test-of-the-supervisor"


async def until(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> None:
    """Returns when the condition holds."""
    give_up_at = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < give_up_at, "it has not happened in time"
        await asyncio.sleep(0.005)


def is_running(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


class Web:
    """A web process's end of the line: its models are the real ones, and what it was sent can be looked at."""

    def __init__(self) -> None:
        self.models = LiveModels(timeout_s=DEADLINE_S, limit=10_000, wake=self._wake)
        #: the states and the number of replicas of each version, as often as a model changed
        self.announced: list[list[tuple[str, int]]] = []
        #: while it is not set, nothing that the supervisor asks for is answered
        self.answers = asyncio.Event()
        self.answers.set()
        self.http_errors: dict[str, dict[str, int]] = {}
        self.connection: Connection

    @property
    def line(self) -> SupervisorClient:
        return SupervisorClient(self.connection)

    async def begin(self, ours: socket.socket) -> None:
        self.connection = await Connection.open(ours, self._received)
        await self.models.begin((await self.line.ask(GetModels())).models)

    async def predict(self, name: str, *values: float) -> PredictionResult:
        request = PredictionRequest({"x": np.array([values], np.float32)})
        return await self.models.get(name).predict(request)

    async def _wake(self, name: str, in_full: bool) -> None:
        await self.line.ask(WakeModel(workspace=name, in_full=in_full))

    async def _received(self, message: Message) -> Any:
        await self.answers.wait()
        if isinstance(message, ModelChanged):
            self.announced.append([(each.state, len(each.addresses)) for each in message.versions])
            await self.models.change(message.workspace, message.versions)
        elif isinstance(message, DrainModel):
            await self.models.drained(message.workspace, message.id, message.addresses)
        elif isinstance(message, ReadCounters):
            return WebCounts(self.models.counts(), self.http_errors)
        elif isinstance(message, ReadInFlight):
            return in_flight(self.models, message)
        return None


class Supervised:
    """The parts, put together as `tfserve.supervisor.main` does, and a web process's end of a line to them."""

    def __init__(self, settings: Settings, database: Any, **workshop_fields: Any) -> None:
        from tfserve.supervisor.access import Access
        from tfserve.supervisor.api import Api
        from tfserve.supervisor.declared.declared_models import DeclaredModels
        from tfserve.supervisor.events import Revision
        from tfserve.supervisor.jobs.journal import Journal
        from tfserve.supervisor.jobs.token_jobs import TokenJobs
        from tfserve.supervisor.jobs.training_queue import TrainingQueue
        from tfserve.supervisor.jobs.waits import JobWaits
        from tfserve.supervisor.metrics import MetricsReader
        from tfserve.supervisor.models.announcements import Announcements
        from tfserve.supervisor.node_statuses import NodeStatuses
        from tfserve.supervisor.processes.launchers import Spare
        from tfserve.supervisor.processes.workshop import Workshop
        from tfserve.supervisor.this_machine import ThisMachine
        from tfserve.supervisor.uploads import UploadRetention
        from tfserve.supervisor.workspaces import Workspaces

        self.settings = settings
        self.changed = Revision()
        self.journal = Journal(database)
        workshop = Workshop(settings, f"{OWNER}:{os.getpid()}", callers_umask=0o022, **workshop_fields)
        self.spare = Spare(workshop, is_kept=settings.warm_spare, changed=self.changed)
        self.announcements = Announcements()
        shared: dict[str, Any] = {"journal": self.journal, "spare": self.spare, "changed": self.changed}
        self.workspaces = Workspaces(settings, announcements=self.announcements, **shared)
        self.trainings = TrainingQueue(settings, deploy=self._deploy, **shared)
        metrics = MetricsReader(announcements=self.announcements, workspaces=self.workspaces, trainings=self.trainings)
        self.access = Access(settings, self.journal)
        self.declared = DeclaredModels(
            settings, workspaces=self.workspaces, journal=self.journal, announcements=self.announcements,
            changed=self.changed, run_job=lambda workspace, request: self.api.run_job(workspace, request),
        )  # fmt: skip
        machines = ThisMachine()
        nodes = NodeStatuses(machines, self.workspaces, self.trainings)
        self.api = Api(
            settings, workspaces=self.workspaces, trainings=self.trainings, metrics=metrics, declared=self.declared,
            handlers={
                **nodes.handlers, **self.access.handlers,
                **JobWaits(self.workspaces.jobs, self.trainings.jobs).handlers,
            },
            uploads=UploadRetention(settings, self.journal), token_jobs=TokenJobs(settings.token_jobs),
            machines=machines, nodes=nodes, **shared,
        )  # fmt: skip
        self.web: Web
        self.webs: list[Web] = []

    async def begin(self) -> None:
        await self.workspaces.bring_all_back()
        await self.trainings.bring_all_back()
        self.web = await self.new_web()
        self.spare.fill()

    async def close(self) -> None:
        self.journal.give_up_after(self.settings.drain_s)
        self.api.stopping = True
        self.changed.fire()
        await self.declared.close()
        await asyncio.gather(self.workspaces.close(), self.trainings.close())
        for web in self.webs:
            web.connection.close()
        await self.spare.close()
        await self.journal.close()

    async def new_web(self) -> Web:
        """One more web process that the supervisor tells of its models."""
        ours, theirs = socket.socketpair()
        line: list[Connection] = []

        async def handle(message: Message) -> Any:
            return (
                self.announcements.everything(line[0])
                if isinstance(message, GetModels)
                else await self.api.handle(message)
            )

        line.append(await Connection.open(ours, handle))
        web = Web()
        self.webs.append(web)
        await web.begin(theirs)
        return web

    # --- what web asks for, in short

    @property
    def line(self) -> SupervisorClient:
        return self.web.line

    async def create(self, name: str = "w", *, type_: int = 0) -> str:
        return await self.line.ask(CreateWorkspace(name=name, type=type_))

    async def submit(
        self, request: JobRequest, name: str = "w", *, wait_s: float = DEADLINE_S, **fields: Any
    ) -> JobStatus:
        return await self.line.ask(SubmitJob(workspace=name, request=request.encode(), wait_s=wait_s, **fields))

    async def run(self, script: str, name: str = "w", **fields: Any) -> JobStatus:
        """Runs a script and returns the job when it has ended."""
        return await self.submit(ScriptJob(clear=False, text=script), name, **fields)

    async def start(self, script: str, name: str = "w", *, printed: str = "begun", **fields: Any) -> JobStatus:
        """Starts a script and returns the job when it has printed something."""
        job = await self.run(f"print({printed!r}, flush=True)\n{script}", name, wait_s=0.0, **fields)
        waiting = WaitOutput(job_id=job.id, offset=0, wait_s=DEADLINE_S)
        assert not await self.line.ask(waiting), "it ended at once"
        return job

    async def deploy(self, path: Path, name: str = "w", **options: Any) -> JobStatus:
        return await self.submit(DeployJob(path=str(path), options=ModelOptions(**options)), name)

    async def update(self, path: Path, name: str = "w") -> JobStatus:
        return await self.submit(UpdateJob(path=str(path)), name)

    async def predict(self, x: Any, name: str = "w", *, fetches: str = "x", **fields: Any) -> JobStatus:
        feed_dict = {"x": msgspec.Raw(json.dumps(x).encode())}
        return await self.submit(PredictJob(fetches=[fetches], feed_dict=feed_dict), name, **fields)

    async def status(self, name: str = "w") -> dict[str, Any]:
        return await self.line.ask(GetWorkspace(name=name))

    async def until_status(self, name: str = "w", **fields: Any) -> dict[str, Any]:
        """The status of the workspace when it says this."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                status = await self.status(name)
                if fields.items() <= status.items():
                    return status
                await asyncio.sleep(0.005)

    async def deployment(self, name: str = "w") -> dict[str, Any]:
        found: dict[str, Any] = (await self.status(name))["deployment"]
        return found

    async def until_deployed(self, name: str = "w", *, state: str = "active", replicas: int = 1) -> dict[str, Any]:
        """The deployment when it has this state, with so many processes."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                found = await self.deployment(name)
                if found is not None and (found["state"], len(found["replicas"])) == (state, replicas):
                    return found
                await asyncio.sleep(0.005)

    async def _deploy(self, workspace: str, path: str) -> None:
        await self.api.deploy(workspace, path)


def outcome(job: JobStatus) -> Outcome:
    """How a job ended that has ended."""
    assert job.outcome is not None, job
    return job.outcome


def failure(job: JobStatus) -> dict[str, Any]:
    """The error of a job that has one."""
    error = outcome(job).error
    assert error is not None, job
    found: dict[str, Any] = json.loads(error)
    return found


def written(path: Path, **inputs: str) -> Path:
    """The file of an echo model with inputs [-1, 2] of the given types, or `x` of float32."""
    tensors = {name: {"dtype": dtype, "shape": [-1, 2]} for name, dtype in (inputs or {"x": "float32"}).items()}
    path.write_text(json.dumps(tensors))
    return path


Start = Callable[..., contextlib.AbstractAsyncContextManager[Supervised]]


@contextlib.asynccontextmanager
async def supervised(settings: Settings, database: Awaitable[Any], **workshop_fields: Any) -> AsyncIterator[Supervised]:
    """Runs the parts; at the end they are closed as when the server stops."""
    server = Supervised(settings, await database, **workshop_fields)
    try:
        await server.begin()
        yield server
    finally:
        await server.close()
