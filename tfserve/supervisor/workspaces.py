"""The workspaces of this server: created, restarted, destroyed, and restored after a restart of the server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import shutil
import string
from collections.abc import Iterator, Mapping
from functools import partial

import msgspec

from tfserve.config import Settings
from tfserve.db import writes
from tfserve.db.models import Job as JobRow
from tfserve.db.models import Workspace as Row
from tfserve.errors import (
    Invalid,
    NoSuchWorkspace,
    OutOfSpace,
    ServiceOff,
    TFserveError,
    TimedOut,
    TooManyWorkspaces,
    WorkspaceExists,
)
from tfserve.ipc.messages import Demand, EncodedRequest, JobKind, Limits
from tfserve.supervisor.events import Revision
from tfserve.supervisor.jobs.deaths import end_interrupted
from tfserve.supervisor.jobs.dispatcher import Dispatcher
from tfserve.supervisor.jobs.job import DESTROYED, RESTARTED, STOPPED, Ending, Job
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.jobs.runner import Runner
from tfserve.supervisor.jobs.scripts import ProcessScripts, ScriptRunner, ThreadHost, ThreadScripts
from tfserve.supervisor.models.announcements import Announcements
from tfserve.supervisor.models.awake_models import AwakeModels
from tfserve.supervisor.models.deployment import Deployment
from tfserve.supervisor.models.model_runner import ModelRunner
from tfserve.supervisor.models.replica_set import ReplicaSet
from tfserve.supervisor.models.runtime_trials import RuntimeTrials
from tfserve.supervisor.processes import limits
from tfserve.supervisor.processes.launchers import Spare
from tfserve.supervisor.processes.limits import Limiter
from tfserve.supervisor.processes.output import JobOutput
from tfserve.supervisor.processes.restarts import Restarts
from tfserve.supervisor.processes.worker import Worker
from tfserve.supervisor.workspace import Workspace

log = logging.getLogger(__name__)

NAME_LENGTH = 10
PRUNE_SLACK = 100
PRUNE_EVERY_S = 3600.0


class Workspaces:
    """All workspaces, by name."""

    def __init__(
        self, settings: Settings, *, journal: Journal, spare: Spare, announcements: Announcements, changed: Revision,
        limiter: Limiter | None = None,
    ) -> None:  # fmt: skip
        self.on = True
        self.jobs: dict[int, Job] = {}
        self._settings = settings
        self._limiter = limiter or Limiter(limits.of_server(settings))
        self._journal = journal
        self._spare = spare
        self._changed = changed
        self._new_replica_set = partial(
            ReplicaSet, settings=settings, journal=journal, spare=spare, announcements=announcements, changed=changed,
            trials=RuntimeTrials(settings.data_path / "conversions", spare), awake=AwakeModels(settings),
        )  # fmt: skip
        self._host = ThreadHost(spare)
        self._by_name: dict[str, Workspace] = {}
        #: names of workspaces that are being created or destroyed
        self._taken: set[str] = set()

    def __iter__(self) -> Iterator[Workspace]:
        return iter(list(self._by_name.values()))

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Workspace:
        """Raises `ServiceOff`, `NoSuchWorkspace`."""
        self.require_on()
        workspace = self._by_name.get(name)
        if workspace is None:
            raise NoSuchWorkspace(name, self._by_name)
        return workspace

    @property
    def host(self) -> Worker | None:
        """The living worker of thread workspaces."""
        worker = self._host.worker
        return worker if worker is not None and worker.alive else None

    def totals(self) -> dict[str, int]:
        """How many workspaces, running jobs and waiting jobs there are."""
        dispatchers = [each.dispatcher for each in self]
        return {
            "workspaces": len(dispatchers),
            "running": sum(len(each.running) for each in dispatchers),
            "waiting": sum(len(each.waiting) for each in dispatchers),
        }

    def require_on(self) -> None:
        if not self.on:
            raise ServiceOff

    async def create(
        self, name: str | None, type_: int, own: Limits = Limits(), resources: Mapping[str, float | str] | None = None  # noqa: B008 - immutable
    ) -> str:  # fmt: skip
        """Raises `WorkspaceExists`, `TooManyWorkspaces`; `Invalid` if `own` limits exceed those of the server."""
        self.require_on()
        limits.check(own, self._limiter.defaults)
        if resources and type_ == Row.Type.THREAD:
            raise Invalid(
                "resources are only for a workspace of type 0: all workspaces of type 1 are threads of one process.",
                field="resources",
            )
        name = name or self._free_name()
        if name in self._by_name or name in self._taken:
            raise WorkspaceExists(name=name)
        if len(self._by_name) + len(self._taken) >= self._settings.max_workspaces:
            raise TooManyWorkspaces(limit=self._settings.max_workspaces)
        self._taken.add(name)
        try:
            create = partial(writes.create_workspace, name, type_, msgspec.to_builtins(own), resources)
            row = await self._journal.change(create)
            if not self.on:  # it was turned off in the meantime
                await self._journal.change(partial(writes.destroy_workspace, row.pk))
                raise ServiceOff
            await self._add_or_undo(writes.Saved(row))
        finally:
            self._taken.discard(name)
        self._changed.fire()
        return name

    async def destroy(self, name: str | None) -> bool:
        """Destroys one workspace, or all. Whether there was anything to destroy."""
        targets = [self.get(name)] if name is not None else list(self)
        for workspace in targets:
            self._by_name.pop(workspace.name, None)
            self._taken.add(workspace.name)  # in the same step, so that the name can't be taken in between
        ends = await asyncio.gather(*(self._destroy(workspace) for workspace in targets), return_exceptions=True)
        self._changed.fire()
        for error in ends:
            if error is not None:
                raise error
        return bool(targets)

    async def restart(self, name: str) -> None:
        """Starts a fresh process without variables, and retries what was given up."""
        workspace = self.get(name)
        async with workspace.restart_lock:
            await self._restart(workspace)

    async def _restart(self, workspace: Workspace) -> None:
        dispatcher = workspace.dispatcher
        workspace.restarting = True
        try:
            dispatcher.hold()
            await dispatcher.end_running(RESTARTED)
            await workspace.scripts.restart()
            await self._journal.record_step(writes.QueueStep(workspace_id=workspace.id, variables=(b"{}", b"{}")))
            workspace.restarts.worked()
            await workspace.model.restart()
        finally:
            workspace.restarting = False
            dispatcher.resume()
            self._changed.fire()

    async def bring_all_back(self) -> None:
        """Restores all workspaces from the database, however the last server ended."""
        saved = await self._journal.change(writes.load_all)
        for step in end_interrupted(saved, self._settings.data_path):
            await self._journal.record_step(step)
        # Together, so that they share a commit.
        await asyncio.gather(*[self.prune(self._restore(each)) for each in saved])

    def put(self, workspace: Workspace, job: Job) -> None:
        """Queues a job that is recorded, and keeps it by its id until it has ended."""
        if workspace.destroyed:  # while the job was being recorded
            _settle(job, DESTROYED)
            return
        self.jobs[job.id] = job
        job.ended.add_done_callback(lambda _: self._forget(workspace, job))
        workspace.dispatcher.put(job)

    def new_output(self, workspace: Workspace, number: int) -> JobOutput:
        return JobOutput(workspace.job_folder / f"{number}.out", workspace.limits.output_bytes)

    async def prune(self, workspace: Workspace) -> None:
        """Deletes old jobs and their output."""
        settings = self._settings
        prune = partial(writes.prune, workspace.id, keep_jobs=settings.keep_jobs, keep_days=settings.keep_days)
        numbers = await self._journal.change(prune)
        workspace.dispatcher.finished_count -= len(numbers)
        for number in numbers:
            (workspace.job_folder / f"{number}.out").unlink(missing_ok=True)

    async def prune_regularly(self) -> None:
        """Deletes old jobs of all workspaces once an hour."""
        while True:
            await asyncio.sleep(PRUNE_EVERY_S)
            for workspace in self:
                with contextlib.suppress(TFserveError):  # the next run does it
                    await self.prune(workspace)

    async def close(self) -> None:
        """Waits for running jobs for a limited time, then ends everything. Queued jobs stay recorded."""
        with contextlib.suppress(TFserveError):
            await self._journal.change(_nothing)  # after it, all submitted jobs are queued
        drain_s = self._settings.drain_s
        await asyncio.gather(*(workspace.dispatcher.close(STOPPED, drain_s) for workspace in self))
        await self._host.close()
        await asyncio.gather(*(workspace.model.replica_set.close(server_stops=True) for workspace in self))
        await asyncio.gather(*(workspace.scripts.restart() for workspace in self))

    # --- inside

    async def _add_or_undo(self, saved: writes.Saved) -> None:
        try:
            self._add(saved)
        except OSError as error:
            await self._journal.change(partial(writes.destroy_workspace, saved.workspace.pk))
            raise OutOfSpace(cause=f"{error.strerror}: {error.filename}") from error

    def _restore(self, saved: writes.Saved) -> Workspace:
        """Restores a workspace, its queue and its deployment from the database."""
        workspace = self._add(saved)
        for row in saved.waiting:
            self.put(workspace, self._job_of_row(workspace, row))
        if saved.deployment is not None:
            workspace.model.replica_set.resume(Deployment.from_row(saved.deployment))
        return workspace

    def _add(self, saved: writes.Saved) -> Workspace:
        row = saved.workspace
        folder = self._settings.data_path / "workspaces" / str(row.pk) / "files"
        folder.mkdir(parents=True, exist_ok=True)
        own = limits.merged(msgspec.convert(row.limits, Limits), self._limiter.defaults)
        self._limiter.set(row.name, own, folder)
        restarts = Restarts()
        scripts: ScriptRunner
        if row.type == Row.Type.THREAD:
            scripts = ThreadScripts(str(row.pk), folder, host=self._host, restarts=restarts)
        else:
            demand = Demand(resources=row.resources)
            scripts = ProcessScripts(row.name, folder, spare=self._spare, restarts=restarts, demand=demand)
        replica_set = self._new_replica_set(row.name, give_up=lambda reason: dispatcher.give_up(reason))
        model = ModelRunner(row.pk, self._settings, replica_set=replica_set, journal=self._journal)
        runners: dict[JobKind, Runner] = {JobKind.SCRIPT: scripts, JobKind.CLEAR: scripts}
        runners |= dict.fromkeys((JobKind.DEPLOY, JobKind.UPDATE, JobKind.UNDEPLOY, JobKind.PREDICT), model)
        dispatcher: Dispatcher = Dispatcher(
            row.pk, name=row.name, journal=self._journal, runners=runners, changed=self._changed,
            grace_s=self._settings.cancel_grace_s,
        )  # fmt: skip
        dispatcher.last_started, dispatcher.last_finished = saved.last_started, saved.last_finished
        dispatcher.finished_count = saved.kept
        model.last_version = saved.last_version
        workspace = Workspace(
            row.pk, row.name, Row.Type(row.type), folder, dispatcher, scripts, model, restarts, own, row.resources
        )
        self._by_name[row.name] = workspace
        return workspace

    async def _destroy(self, workspace: Workspace) -> None:
        """If its record can't be deleted, the workspace continues, with its model, its variables and what waits."""
        dispatcher, given_up_reason = workspace.dispatcher, workspace.dispatcher.given_up_reason
        dispatcher.hold()
        try:
            with contextlib.suppress(TimedOut):  # a thread that is stuck continues without the workspace
                await dispatcher.end_running(DESTROYED)
            await self._journal.change(partial(writes.destroy_workspace, workspace.id))
        except TFserveError:
            self._by_name[workspace.name] = workspace
            dispatcher.resume()
            if given_up_reason is not None:
                dispatcher.give_up(given_up_reason)
            raise
        else:
            await self._tear_down(workspace)
        finally:
            self._taken.discard(workspace.name)

    async def _tear_down(self, workspace: Workspace) -> None:
        """Ends what is left of a workspace whose record is deleted."""
        workspace.destroyed = True
        dispatcher = workspace.dispatcher
        for job in [*dispatcher.running, *dispatcher.waiting]:
            _settle(job, DESTROYED)
        dispatcher.waiting.clear()
        try:
            await dispatcher.stop()
            await workspace.model.replica_set.close()
            await workspace.scripts.restart()
        finally:
            self._limiter.forget(workspace.name)
            await asyncio.to_thread(shutil.rmtree, workspace.folder.parent, ignore_errors=True)

    def _job_of_row(self, workspace: Workspace, row: JobRow) -> Job:
        return Job(
            id=row.pk, number=row.number, request=EncodedRequest(JobKind(row.kind), (row.request or "{}").encode()),
            attempts=row.attempts, time_limit_s=row.time_limit_s, output=self.new_output(workspace, row.number),
            traceparent=row.traceparent,
        )  # fmt: skip

    def _forget(self, workspace: Workspace, job: Job) -> None:
        self.jobs.pop(job.id, None)
        if workspace.dispatcher.finished_count > self._settings.keep_jobs + PRUNE_SLACK:
            workspace.dispatcher.finished_count = self._settings.keep_jobs  # once is enough
            task = asyncio.get_running_loop().create_task(self.prune(workspace))
            task.add_done_callback(lambda done: done.exception())

    def _free_name(self) -> str:
        letters = string.ascii_letters + string.digits
        while (name := "".join(random.choices(letters, k=NAME_LENGTH))) in self._by_name:  # noqa: S311 (a name, no secret)
            pass
        return name


def _nothing() -> None:
    """An empty write: it returns after all earlier ones."""


def _settle(job: Job, ending: Ending) -> None:
    """Notifies the clients that wait for a job whose record is deleted."""
    if not job.ended.done():
        job.ended.set_result(job.ended_by(ending))
