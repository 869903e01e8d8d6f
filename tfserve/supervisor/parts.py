"""The parts of a running supervisor, put together, and their order at the start and at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tfserve.config import Settings
from tfserve.db.database import Database
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import GetModels
from tfserve.supervisor.access import Access
from tfserve.supervisor.api import Api
from tfserve.supervisor.audit_rotation import rotate_regularly
from tfserve.supervisor.declared.declared_models import DeclaredModels
from tfserve.supervisor.evacuation import Evacuation
from tfserve.supervisor.events import Revision
from tfserve.supervisor.jobs.callbacks import JobCallbacks
from tfserve.supervisor.jobs.dataset_checks import ProjectChecks
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.jobs.model_jobs import ModelJobs
from tfserve.supervisor.jobs.token_jobs import TokenJobs
from tfserve.supervisor.jobs.training_queue import TrainingQueue
from tfserve.supervisor.jobs.waits import JobWaits
from tfserve.supervisor.metrics import MetricsReader
from tfserve.supervisor.model_history import SampledModels
from tfserve.supervisor.models.announcements import Announcements
from tfserve.supervisor.node_statuses import NodeStatuses
from tfserve.supervisor.processes import limits
from tfserve.supervisor.processes.child import Role
from tfserve.supervisor.processes.control_groups import ControlGroups
from tfserve.supervisor.processes.launchers import Spare
from tfserve.supervisor.processes.limits import Limiter
from tfserve.supervisor.processes.workshop import Workshop
from tfserve.supervisor.this_machine import ThisMachine
from tfserve.supervisor.uploads import UploadRetention
from tfserve.supervisor.web_processes import SupervisorService, WebProcess
from tfserve.supervisor.workspaces import Workspaces

if TYPE_CHECKING:
    from tfserve.supervisor.cluster.cluster import Cluster


class Parts:
    """Everything except the web processes. Importing this module needs Django to be set up."""

    def __init__(self, settings: Settings, database: Database, owner: str, callers_umask: int) -> None:
        self._settings = settings
        self.changed = Revision()
        self.journal = Journal(database)
        self.announcements = Announcements()
        self.access = Access(settings, self.journal)
        self._uploads = UploadRetention(settings, self.journal)
        limiter = Limiter(limits.of_server(settings), ControlGroups.open())
        workshop = Workshop(settings, owner, callers_umask, limiter=limiter)
        self.spare = Spare(workshop, is_kept=settings.warm_spare, changed=self.changed)
        self.cluster = _cluster(settings, database, owner, callers_umask, self.spare, limiter, self.changed)
        self._workspaces = Workspaces(
            settings, journal=self.journal, spare=self.spare, announcements=self.announcements, changed=self.changed,
            limiter=limiter,
        )  # fmt: skip
        self._trainings = TrainingQueue(
            settings, journal=self.journal, spare=self.spare, changed=self.changed,
            deploy=lambda workspace, path: self.api.deploy(workspace, path),
        )  # fmt: skip
        self._declared = DeclaredModels(
            settings, workspaces=self._workspaces, journal=self.journal, announcements=self.announcements,
            changed=self.changed, run_job=lambda workspace, request: self.api.run_job(workspace, request),
        )  # fmt: skip
        self._callbacks = JobCallbacks(settings, self.journal, is_open=lambda: not self.access.is_required)
        token_jobs = TokenJobs(settings.token_jobs)
        self._model_jobs = ModelJobs(
            settings, journal=self.journal, changed=self.changed, token_jobs=token_jobs,
            start_process=partial(self._start_batch_process, settings, owner),
        )  # fmt: skip
        waits = JobWaits(self._workspaces.jobs, self._trainings.jobs, self._model_jobs.jobs)
        machines = self.cluster or ThisMachine()
        nodes = NodeStatuses(machines, self._workspaces, self._trainings)
        metrics = MetricsReader(
            announcements=self.announcements, workspaces=self._workspaces, trainings=self._trainings,
            model_jobs=self._model_jobs.counts, nodes=nodes.read,
        )  # fmt: skip
        self._history = SampledModels(metrics.models)
        self._checks = ProjectChecks(settings.data_path / "checks", self.spare, settings.root_paths)
        self.api = Api(
            settings, workspaces=self._workspaces, trainings=self._trainings, uploads=self._uploads,
            journal=self.journal, spare=self.spare, changed=self.changed, declared=self._declared, metrics=metrics,
            token_jobs=token_jobs, machines=machines, nodes=nodes,
            handlers={
                **self.access.handlers, **self._model_jobs.handlers, **self._callbacks.handlers, **waits.handlers,
                **self._history.handlers, **self._checks.handlers, **nodes.handlers,
            },
        )  # fmt: skip
        if self.cluster is not None:
            self.cluster.evacuate = Evacuation(self._workspaces, self._trainings, self.changed).run
        self._pruning: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Restores what the database has, before web processes start. Raises `TFserveError`, `OSError`."""
        await self.access.begin()
        if self.cluster is not None:
            await self.cluster.begin()
        await self._workspaces.bring_all_back()
        await self._trainings.bring_all_back()
        await self._model_jobs.bring_all_back()
        await self._callbacks.begin()
        self._uploads.begin()
        await self._declared.start()

    def work_regularly(self) -> None:
        """What no request waits for: fills the spare, prunes, rotates."""
        if self.cluster is not None:
            self.cluster.begin_filling()
            self._watch_database(self.cluster)
        self.spare.fill()
        rotate_regularly(self._settings.audit_log_path)
        loop = asyncio.get_running_loop()
        regular = (self._workspaces, self._uploads, self._model_jobs)
        self._pruning += [loop.create_task(each.prune_regularly()) for each in regular]

    async def drain(self) -> None:
        """Accepts nothing from now on. Returns when running jobs have ended, or after the grace period for them."""
        for task in self._pruning:
            task.cancel()
        self._history.close()
        self.journal.give_up_after(self._settings.drain_s)
        self.api.stopping = True
        self.changed.fire()
        await self._declared.close()
        await self._model_jobs.close()  # before its models are, which would fail its jobs
        await asyncio.gather(self._workspaces.close(), self._trainings.close())
        await self._callbacks.close()

    def _watch_database(self, cluster: Cluster) -> None:
        loop = asyncio.get_running_loop()
        fencing: list[asyncio.Task[None]] = []
        self.journal.on_taken = lambda: fencing.append(loop.create_task(cluster.fence()))
        self._pruning.append(loop.create_task(self.journal.watch()))

    def serve(self, service: SupervisorService) -> None:
        """Nodes get the same as web processes from now on."""
        if self.cluster is not None:
            self._serving = asyncio.get_running_loop().create_task(self.cluster.serve(service))

    def _start_batch_process(
        self, settings: Settings, owner: str, on_ready: Callable[[Connection], None]
    ) -> WebProcess:
        service: asyncio.Future[SupervisorService] = asyncio.get_running_loop().create_future()
        service.set_result(SupervisorService(self.api.handle, {GetModels: self.announcements.everything}))
        return WebProcess(
            settings, owner, sockets=(), service=service,
            program="tfserve.web.batch.process", role=Role.BATCH, on_ready=on_ready,
        )  # fmt: skip


def _cluster(
    settings: Settings,
    database: Database,
    owner: str,
    callers_umask: int,
    spare: Spare,
    limiter: Limiter,
    changed: Revision,
) -> Cluster | None:
    """The nodes, if there are any; without a cluster nothing of it is imported. Raises `OSError`."""
    if not settings.cluster:
        return None
    from tfserve.supervisor.cluster.cluster import Cluster

    cluster = Cluster(
        settings, epoch=database.epoch, owner=owner, spare=spare, limiter=limiter, changed=changed,
        callers_umask=callers_umask,
    )  # fmt: skip
    spare.elsewhere = cluster
    return cluster
