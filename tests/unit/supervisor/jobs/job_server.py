"""Workspaces and what web asks of them, on a real database, with echo workers for scripts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from queues import DEADLINE_S, open_journal, read
from trainer import Trainer

from tfserve.config import Settings
from tfserve.db.models import Job as JobRow
from tfserve.ipc.messages import CreateWorkspace, JobAnswer, JobKind, Message, SubmitJob
from tfserve.supervisor.api import Requests
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.models.announcements import Catalogue
from tfserve.supervisor.workspaces import Workspaces


def waits_for(file: Path) -> str:
    """A script that says that it has begun, and ends when the file is there."""
    return f"print('begun', flush=True)\nwhile not Path({str(file)!r}).exists(): time.sleep(0.005)"


class JobServer(Trainer):
    """A server without its web processes: its questions are asked here."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        super().__init__(settings, journal)
        spare = self.trainings._spare
        self.workspaces = Workspaces(
            settings, journal=journal, spare=spare, catalogue=Catalogue(), changed=self.changed
        )
        self.requests = Requests(
            settings, workspaces=self.workspaces, trainings=self.trainings, journal=journal, spare=spare,
            changed=self.changed,
        )  # fmt: skip

    async def create(self, name: str = "w") -> None:
        await self.requests.answer(CreateWorkspace(name=name))

    async def submit(
        self, script: str = "", *, kind: JobKind = JobKind.SCRIPT, wait_s: float = 0.0, **fields: Any
    ) -> JobAnswer:
        request = msgspec.json.encode({"text": script})
        answer = await self.ask(SubmitJob(workspace="w", kind=kind, request=request, wait_s=wait_s, **fields))
        assert isinstance(answer, JobAnswer)
        return answer

    async def ask(self, message: Message) -> Message:
        return await self.requests.answer(message)

    async def begin_waiting(self, file: Path, **fields: Any) -> JobAnswer:
        """A script that runs until the file is there."""
        answer = await self.submit(waits_for(file), **fields)
        job = self.workspaces.jobs[answer.id]
        while not job.output.size:
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
            server.requests.stopping = True
            await server.workspaces.close()
            await server.trainings.close()
