"""Workspaces and what web asks of them, on a real database, with echo workers for scripts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

from queues import DEADLINE_S, open_journal, read
from task_trainer import Trainer

from tfserve.config import Settings
from tfserve.db.models import Job as JobRow
from tfserve.ipc.messages import CreateWorkspace, JobRequest, JobStatus, Request, ScriptJob, SubmitJob
from tfserve.supervisor.access import Access
from tfserve.supervisor.api import Api
from tfserve.supervisor.declared.declared_models import DeclaredModels
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.jobs.token_jobs import TokenJobs
from tfserve.supervisor.jobs.waits import JobWaits
from tfserve.supervisor.metrics import MetricsReader
from tfserve.supervisor.models.announcements import Announcements
from tfserve.supervisor.node_statuses import NodeStatuses
from tfserve.supervisor.this_machine import ThisMachine
from tfserve.supervisor.uploads import UploadRetention
from tfserve.supervisor.workspaces import Workspaces

R = TypeVar("R")


def waits_for(file: Path) -> str:
    """A script that says that it has begun, and ends when the file is there."""
    return f"print('begun', flush=True)\nwhile not Path({str(file)!r}).exists(): time.sleep(0.005)"


class JobServer(Trainer):
    """A server without web processes: the test sends the requests."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        super().__init__(settings, journal)
        spare = self.trainings._spare
        announcements = Announcements()
        self.workspaces = Workspaces(
            settings, journal=journal, spare=spare, announcements=announcements, changed=self.changed
        )
        declared = DeclaredModels(
            settings, workspaces=self.workspaces, journal=journal, announcements=announcements, changed=self.changed,
            run_job=lambda workspace, request: self.api.run_job(workspace, request),
        )  # fmt: skip
        machines = ThisMachine()
        nodes = NodeStatuses(machines, self.workspaces, self.trainings)
        self.api = Api(
            settings, workspaces=self.workspaces, trainings=self.trainings, journal=journal, spare=spare,
            changed=self.changed, declared=declared, token_jobs=TokenJobs(settings.token_jobs),
            handlers={
                **Access(settings, journal).handlers,
                **JobWaits(self.workspaces.jobs, self.trainings.jobs).handlers,
            },
            uploads=UploadRetention(settings, journal), machines=machines, nodes=nodes,
            metrics=MetricsReader(announcements=announcements, workspaces=self.workspaces, trainings=self.trainings),
        )  # fmt: skip

    async def create(self, name: str = "w") -> None:
        await self.ask(CreateWorkspace(name=name))

    async def submit(
        self, script: str = "", *, request: JobRequest | None = None, wait_s: float = 0.0, **fields: Any
    ) -> JobStatus:
        job = request or ScriptJob(clear=False, text=script)
        return await self.ask(SubmitJob(workspace="w", request=job.encode(), wait_s=wait_s, **fields))

    async def ask(self, request: Request[R]) -> R:
        response: R = await self.api.handle(request)
        return response

    async def begin_waiting(self, file: Path, **fields: Any) -> JobStatus:
        """A script that runs until the file is there."""
        answer = await self.submit(waits_for(file), **fields)
        job = self.workspaces.jobs[answer.id]
        while job.output.size < len("begun\n"):  # which may arrive in two pieces
            assert await job.output.grew.wait(DEADLINE_S)
        return answer

    async def all_ended(self) -> list[str]:
        """The states of all jobs, once every one has ended."""
        for job in list(self.workspaces.jobs.values()):
            await job.wait(DEADLINE_S)
        return await self.job_states()

    async def job_states(self) -> list[str]:
        return [row.state for row in await self.job_rows()]

    async def job_rows(self) -> list[JobRow]:
        return await read(lambda: list(JobRow.objects.select_related("outcome").order_by("number")))


@contextlib.asynccontextmanager
async def open_server(database: Path, **settings: Any) -> AsyncIterator[JobServer]:
    """From the start of the server to its stop."""
    defaults: dict[str, Any] = {
        "cancel_grace_s": 0.1, "drain_s": 0.05, "warm_spare": False, "data_dir": str(database.parent),
    }  # fmt: skip
    async with open_journal() as journal:
        server = JobServer(Settings(**{**defaults, **settings}), journal)
        await server.workspaces.bring_all_back()
        try:
            yield server
        finally:
            journal.give_up_after(5)
            server.api.stopping = True
            await server.workspaces.close()
            await server.trainings.close()
