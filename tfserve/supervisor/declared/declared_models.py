"""All declared models of this server, each with a reconciler of its own."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from tfserve.config import Settings
from tfserve.db import writes
from tfserve.db.models import Workspace as Row
from tfserve.errors import Conflict, Invalid, TFserveError, Unavailable
from tfserve.ipc.messages import DeclaredModel, DeclaredState, JobRequest, ModelVersion, Outcome, Problem
from tfserve.supervisor.background import BackgroundTasks
from tfserve.supervisor.declared.file_events import FileEvents
from tfserve.supervisor.declared.reconciler import Problems, Reconciler
from tfserve.supervisor.declared.sources import Sources
from tfserve.supervisor.declared.version_folders import folders_above
from tfserve.supervisor.events import Signal
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.models import model_files
from tfserve.supervisor.models.announcements import VERSION_MARK, Announcements, model_of
from tfserve.supervisor.models.deployment import Deployment
from tfserve.supervisor.workspace import Workspace
from tfserve.supervisor.workspaces import Workspaces

log = logging.getLogger(__name__)

PAUSE_S = 0.3
"""Events within this time are examined together."""

TYPES = {"process": Row.Type.PROCESS, "thread": Row.Type.THREAD}

RunJob = Callable[[str, JobRequest], Awaitable[Outcome]]


class ManagedElsewhere(Conflict):
    """Model {name!r} is declared {where}, which decides what is deployed there and how. Change the declaration, or \
use another workspace."""


class NotAsDeclared(Unavailable):
    """{count} of the models are not served as declared: {reasons}"""


class DeclaredModels:
    """Starts and ends the reconcilers, and is their host."""

    def __init__(
        self, settings: Settings, *, workspaces: Workspaces, journal: Journal, announcements: Announcements,
        changed: Signal, run_job: RunJob,
    ) -> None:  # fmt: skip
        self.roots: Sequence[Path] = settings.root_paths
        self._sources = Sources(settings, journal)
        self._workspaces = workspaces
        self._journal = journal
        self._announcements = announcements
        self._changed = changed
        self._run_job = run_job
        self._reconcilers: dict[str, Reconciler] = {}
        self._tasks = BackgroundTasks()
        self._creating = asyncio.Lock()
        self._workspace_problems: dict[str, str] = {}
        self._failed_ids: dict[tuple[str, int], int] = {}
        self._new_ids = itertools.count(-1, -1)
        #: the folders of the models file (None) and of each model
        self._folders: dict[str | None, set[Path]] = {}
        self._events: FileEvents | None = None
        self._watch_problem = ""
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Applies what was declared when the server stopped, and the file as it is now."""
        await self._watch_file()
        await self._sources.load()
        self._apply()

    async def close(self) -> None:
        if self._events is not None:
            self._events.close()
        if self._timer is not None:
            self._timer.cancel()
        self._tasks.cancel()
        await self._tasks.wait()

    async def reload(self, models: Mapping[str, DeclaredModel]) -> None:
        """Replaces what clients declared, and waits until it serves. Raises `DeclaredInFile`, `NotAsDeclared`."""
        await self._sources.declare(models)
        self._apply()
        for name in models:
            self._reconcilers[name].retry()
        withdrawn = [name for name, each in self._reconcilers.items() if each.declared is None]
        await self._settled([*models, *withdrawn])

    async def retry(self, name: str) -> None:
        """Examines a declared model again, and waits until it serves. Raises `NotAsDeclared`."""
        await self._read_file()
        if (reconciler := self._reconcilers.get(name)) is not None:
            reconciler.retry()
            await self._settled([name])

    async def _settled(self, names: Iterable[str]) -> None:
        reconcilers = [self._reconcilers[name] for name in names if name in self._reconcilers]
        await asyncio.gather(*(each.settled.wait() for each in reconcilers))
        failed = [f"{each.name}: {' '.join(sentences(each.problems))}" for each in reconcilers if each.problems]
        if failed:
            raise NotAsDeclared(count=len(failed), reasons="; ".join(failed))

    def wake(self) -> None:
        """Examines everything again, after workspaces have changed."""
        self._apply()
        for reconciler in self._reconcilers.values():
            reconciler.wake()

    def is_declared(self, workspace: str) -> bool:
        """Whether the server creates this workspace by itself."""
        return model_of(workspace) in self._sources.models or workspace in self._sources.workspaces

    def refuse_change(self, workspace: str) -> None:
        """Raises `ManagedElsewhere` if clients may not change what is deployed in a workspace."""
        name = model_of(workspace)
        if name in self._sources.models or VERSION_MARK in workspace:
            raise ManagedElsewhere(name=name, where=self._sources.where(name))

    def state(self) -> DeclaredState:
        found = {name: sentences(each.problems) for name, each in self._reconcilers.items() if each.problems}
        for name, problem in self._workspace_problems.items():
            found.setdefault(name, []).append(problem)
        problems = list(self._sources.problems)
        if watching := self._watch_problem or (self._events.problem if self._events is not None else ""):
            problems.append(Problem(watching))
        path = self._sources.path
        return DeclaredState(
            path=None if path is None else str(path), problems=problems, models=found,
            declared=list(self._sources.models),
        )  # fmt: skip

    # --- reconcilers

    def _apply(self) -> None:
        """Starts, changes and ends reconcilers."""
        if self._sources.workspaces or self._workspace_problems:
            self._tasks.start(self._create_workspaces())
        declared = self._sources.models
        for name in sorted({*declared, *self._reconcilers, *self._left_over()}):
            if name in self._reconcilers:
                self._reconcilers[name].declare(declared.get(name))
            else:
                self._reconcilers[name] = Reconciler(name, declared.get(name), self)
                self._tasks.start(self._run(self._reconcilers[name]))

    async def _run(self, reconciler: Reconciler) -> None:
        try:
            await reconciler.run()
        finally:  # in the step in which it ends: if the model is declared again, it needs another reconciler
            del self._reconcilers[reconciler.name]
        await self._report_failed(reconciler.name, {})
        self._changed.fire()

    def _left_over(self) -> set[str]:
        """The models that were declared before."""
        found = set()
        for workspace in self._workspaces:
            active = workspace.model.replica_set.active
            if VERSION_MARK in workspace.name or (active is not None and active.is_declared):
                found.add(model_of(workspace.name))
        return found

    async def _create_workspaces(self) -> None:
        declared, problems = self._sources.workspaces, {}
        for name, each in declared.items():
            try:
                workspace = await self.create(name, name)
            except TFserveError as error:
                problems[name] = error.message
                continue
            if workspace.type != TYPES[each.type]:
                problems[name] = (
                    f"the workspace exists with another type than {each.type!r}, which can't be changed. Destroy"
                    " it first, or declare the other type"
                )
        if declared is self._sources.workspaces:  # otherwise a later task knows better
            self._workspace_problems = problems
        self._changed.fire()

    # --- the host of the reconcilers

    def workspaces_of(self, model: str) -> dict[str, Workspace]:
        return {each.name: each for each in self._workspaces if model_of(each.name) == model}

    async def create(self, workspace: str, model: str) -> Workspace:
        """Creates a workspace unless it exists: the models file may declare it for itself and for a model."""
        async with self._creating:
            if (found := self.workspaces_of(model).get(workspace)) is not None:
                return found
            declared = self._sources.workspaces.get(model)
            await self._workspaces.create(workspace, TYPES[declared.type] if declared else Row.Type.PROCESS)
            return self._workspaces.get(workspace)

    async def destroy(self, workspace: str) -> None:
        await self._workspaces.destroy(workspace)

    async def run(self, workspace: str, request: JobRequest) -> Outcome:
        if self._workspaces.get(workspace).dispatcher.given_up_reason is not None:
            await self._workspaces.restart(workspace)
        return await self._run_job(workspace, request)

    async def adopt(self, deployment: Deployment) -> None:
        await self._journal.change(partial(writes.mark_as_declared, deployment.id))
        deployment.is_declared = True

    async def label(self, model: str, labels: Mapping[str, int]) -> None:
        await self._announcements.set_labels(model, labels)

    async def report(self, model: str, problems: Problems) -> None:
        await self._report_failed(model, problems)
        self._changed.fire()

    async def _report_failed(self, model: str, problems: Problems) -> None:
        """A version that can't be served has a state as well. Of a model without any, it is version 0."""
        failed = []
        for version, reason in problems.items():
            number = version or 0
            id_ = self._failed_ids.setdefault((model, number), next(self._new_ids))
            failed.append(ModelVersion(id=id_, version=number, state="failed", reason=reason))
        await self._announcements.set_failed(model, failed)

    # --- events

    def watch(self, model: str | None, folders: set[Path]) -> None:
        """Watches these folders for a model, also if their names are the former ones: they may have been replaced."""
        is_changed = self._folders.get(model, set()) != folders
        self._folders[model] = folders
        if self._events is None:
            if not folders:
                return
            try:
                self._events = FileEvents(self._on_events)
            except OSError as error:
                self._watch_problem = f"changes of files are not noticed: {error.strerror}"
                return
            self._watch_problem, is_changed = "", True
        if is_changed:
            self._events.watch(set().union(*self._folders.values()))
        else:
            self._events.renew(folders)

    async def _watch_file(self) -> None:
        if (path := self._sources.path) is not None:
            try:
                self.watch(None, await model_files.in_own_thread(lambda: folders_above(path), str(path)))
            except Invalid:
                log.exception("the models file can't be watched")

    def _on_events(self, changed: set[Path] | None) -> None:
        for name, folders in self._folders.items():
            if changed is not None and changed.isdisjoint(folders):
                continue
            if name in self._reconcilers:
                self._reconcilers[name].wake(PAUSE_S)
            elif name is None and self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(PAUSE_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._tasks.start(self._read_file())

    async def _read_file(self) -> None:
        await self._watch_file()  # first, so that no change goes unnoticed
        await self._sources.read_file()
        self._apply()
        self._changed.fire()


def sentences(problems: Problems) -> list[str]:
    return [f"version {version}: {reason}" if version is not None else reason for version, reason in problems.items()]
