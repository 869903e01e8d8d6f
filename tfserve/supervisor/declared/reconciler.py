"""Makes one declared model true: its versions are deployed, updated, labelled and removed as it is declared."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from tfserve.db.models import Deployment as Row
from tfserve.errors import Failure, Kind, TFserveError
from tfserve.ipc.messages import (
    Autoscale,
    DeclaredModel,
    DeployJob,
    JobKind,
    JobState,
    ModelOptions,
    Outcome,
    UndeployJob,
)
from tfserve.supervisor.declared.attempts import SETTLE_S, Attempts, VersionVerdict
from tfserve.supervisor.declared.checks import fixed_versions
from tfserve.supervisor.declared.selection import ServedVersion, select, targets
from tfserve.supervisor.declared.version_folders import VersionFolders, find, folders_above, folders_in
from tfserve.supervisor.jobs.job import Job
from tfserve.supervisor.models import model_files
from tfserve.supervisor.models.deployment import Deployment
from tfserve.supervisor.workspace import Workspace

if TYPE_CHECKING:
    from tfserve.supervisor.declared.declared_models import DeclaredModels

log = logging.getLogger(__name__)

AGAIN_S = 5.0
"""After a refusal that may pass by itself, such as a full queue or an unreachable database."""

Problems = dict[int | None, str]


class Superseded(Exception):
    """The declaration has changed meanwhile."""


class Reconciler:
    """One declared model. Without a declaration it undeploys what was declared before, and ends."""

    def __init__(self, name: str, declared: DeclaredModel | None, host: DeclaredModels) -> None:
        self.name = name
        self.declared = declared
        #: set while there is nothing to do before the next event
        self.settled = asyncio.Event()
        #: why a version, or the model as a whole (None), is not served as declared
        self.problems: Problems = {}
        self._host = host
        self._attempts = Attempts()
        self._labels: dict[str, int] = {}
        self._awake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[Job | None]] = set()
        self.wake()

    def declare(self, declared: DeclaredModel | None) -> None:
        """Replaces the declaration. What is being loaded for the former one is given up."""
        if declared == self.declared:
            return
        self.declared = declared
        self.wake()
        for workspace in self._workspaces.values():
            for job in _pending(workspace):
                if declared is None or not _serves(_request(job), declared):
                    self._end(workspace, job)

    def wake(self, after_s: float = 0.0) -> None:
        """Examines everything again, now or later."""
        self.settled.clear()
        if not after_s:
            self._awake.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(after_s, self._on_timer)

    def retry(self) -> None:
        """Tries again what has failed before."""
        self._attempts.forget()
        self.wake()

    async def run(self) -> None:
        """Returns when the model is no longer declared and nothing of it is left."""
        try:
            while not await self._examine():
                await self._awake.wait()
        finally:
            self.settled.set()
            if self._timer is not None:
                self._timer.cancel()

    async def _examine(self) -> bool:
        """Whether this was the last time."""
        self._awake.clear()
        is_refused = False
        try:
            await self._withdraw() if self.declared is None else await self._step(self.declared)
            if self.declared is None and not self._awake.is_set():
                return True
        except Superseded:
            self.wake()
        except TFserveError as error:
            self.problems[None] = error.message
            is_refused = error.kind in (Kind.UNAVAILABLE, Kind.OVERLOADED)
            if is_refused:
                self.wake(AGAIN_S)
        except Exception:
            log.exception("the declared model %s could not be examined", self.name)
            self.problems[None] = "Internal server error. See the server's log."
        with suppress(TFserveError):
            await self._host.report(self.name, self.problems)
        if not self._awake.is_set() and (is_refused or self._timer is None):
            self.settled.set()
        return False

    def _on_timer(self) -> None:
        self._timer = None
        self._awake.set()

    # --- the steps

    async def _step(self, declared: DeclaredModel) -> None:
        self.problems = {}
        if not declared.watch:
            self._host.watch(self.name, set())
        found = await self._find(declared)
        selected = await select(declared, found, self._judge)
        if selected is None:
            return
        await self._label(declared)
        if not self._is_serving:  # first of all the version that most requests need
            chosen = list(reversed(targets(self.name, declared, selected)))
        else:
            chosen = targets(self.name, declared, selected)
        for target in chosen:
            if not self._would_lose_a_version(target, declared):
                await self._make_true(target, declared)
        await self._label(declared)
        if chosen and not self.problems:
            await self._remove_all_but({target.workspace for target in chosen})

    async def _find(self, declared: DeclaredModel) -> VersionFolders:
        """What there is. The folders are watched first, so that no change goes unnoticed."""
        await self._watch(declared, [])
        found = await model_files.in_own_thread(lambda: find(declared, self._host.roots), declared.path)
        served = {active.path for active in self._serving()}
        await self._watch(declared, [path for path in found.versions.values() if str(path) not in served])
        missing = sorted(fixed_versions(declared) - found.versions.keys())
        for version in missing:
            self.problems[version] = f"{declared.path} has no version {version}"
        if not found.versions:
            self.problems[None] = f"{declared.path} has no numbered versions"
        return found

    async def _judge(self, version: int | None, path: Path) -> VersionVerdict:
        declared = self._required()
        is_serving = any(str(path) == active.path and _serves(active, declared) for active in self._serving())
        if is_serving and not self._attempts.has_failed(path, declared):
            return VersionVerdict.LOAD
        verdict = await self._attempts.judge(path, declared)
        if verdict in (VersionVerdict.WAIT, VersionVerdict.COPYING):
            self.wake(SETTLE_S)
        if verdict in (VersionVerdict.COPYING, VersionVerdict.LEAVE):
            self.problems[version] = self._attempts.reason(path)
        return verdict

    async def _watch(self, declared: DeclaredModel, versions: Sequence[Path]) -> None:
        """Watches the folder for new versions, and all files of these versions."""
        if not declared.watch:
            return
        folders = await model_files.in_own_thread(
            lambda: folders_above(Path(declared.path)).union(*map(folders_in, versions)), declared.path
        )
        self._host.watch(self.name, folders)

    async def _make_true(self, target: ServedVersion, declared: DeclaredModel) -> None:
        workspace = await self._host.create(target.workspace, self.name)
        active = workspace.model.replica_set.active
        if active is not None and active in self._serving() and _is(active, target, declared):
            await self._keep(workspace, active, declared)
            return
        outcome = await self._deploy(workspace, target, declared)
        if outcome.state == JobState.SUCCEEDED:
            return
        if self.declared is not declared:
            raise Superseded
        self._attempts.failed(target.path, declared, _reason(outcome))
        self.problems[target.version] = _reason(outcome)
        self.wake()  # an older version may replace it

    async def _keep(self, workspace: Workspace, active: Deployment, declared: DeclaredModel) -> None:
        if not active.is_declared:
            await self._host.adopt(active)
        expected, scaling = declared.options, workspace.model.replica_set.scaling
        if _numbers(active.options) != _numbers(expected):
            fixed = expected.replicas if expected.autoscale is msgspec.UNSET else None
            await scaling.set(scaling.options_for(fixed, expected.autoscale or False))
        if active.options.idle_after_s != expected.idle_after_s:
            await scaling.set_idle_after(expected.idle_after_s)

    async def _deploy(self, workspace: Workspace, target: ServedVersion, declared: DeclaredModel) -> Outcome:
        """Deploys, or waits for the same job if it was queued before the server's restart."""
        for job in _pending(workspace):
            if _is(_request(job), target, declared):
                await job.wait(None)
                return job.ended.result()
            await workspace.dispatcher.end(job.number)
        request = DeployJob(path=str(target.path), device=declared.device, options=declared.options, declared=True)
        return await self._host.run(workspace.name, request)

    async def _label(self, declared: DeclaredModel) -> None:
        """A label stays at its former version until the new one serves."""
        served = {active.version for active in self._serving()}
        former = self._labels
        moved = {
            label: version if version in served else former.get(label) for label, version in declared.labels.items()
        }
        self._labels = {label: version for label, version in moved.items() if version in served and version is not None}
        await self._host.label(self.name, self._labels)

    async def _remove_all_but(self, kept: set[str]) -> None:
        """Ends the versions that are no longer declared, once all that are declared serve."""
        for name, workspace in self._workspaces.items():
            if name not in kept and name != self.name:
                await self._remove(workspace)

    async def _remove(self, workspace: Workspace) -> None:
        active = workspace.model.replica_set.active
        if active is not None and active.is_declared:
            await self._host.run(workspace.name, UndeployJob())
        if workspace.name != self.name:
            await self._host.destroy(workspace.name)

    async def _withdraw(self) -> None:
        """Undeploys what was declared. What a client deployed is left alone."""
        self.problems, self._labels = {}, {}
        self._host.watch(self.name, set())
        await self._host.label(self.name, {})
        for workspace in self._workspaces.values():
            for job in _pending(workspace):
                await workspace.dispatcher.end(job.number)
            await self._remove(workspace)

    # --- what there is

    @property
    def _workspaces(self) -> dict[str, Workspace]:
        return self._host.workspaces_of(self.name)

    @property
    def _is_serving(self) -> bool:
        own = self._workspaces.get(self.name)
        return own is not None and own.model.replica_set.active is not None

    def _would_lose_a_version(self, target: ServedVersion, declared: DeclaredModel) -> bool:
        """Whether a version that is declared by number would be replaced, which could not be loaded elsewhere."""
        own = self._workspaces.get(self.name)
        active = own.model.replica_set.active if own is not None and target.workspace == self.name else None
        return (
            active is not None and active.version != target.version
            and active.version in fixed_versions(declared) and active.version in self.problems
        )  # fmt: skip

    def _serving(self) -> list[Deployment]:
        """The versions that serve, or that load again after a restart."""
        active = [workspace.model.replica_set.active for workspace in self._workspaces.values()]
        return [each for each in active if each is not None and each.state != Row.State.FAILED]

    def _required(self) -> DeclaredModel:
        """Raises `Superseded`."""
        if self.declared is None:
            raise Superseded
        return self.declared

    def _end(self, workspace: Workspace, job: Job) -> None:
        task = asyncio.get_running_loop().create_task(workspace.dispatcher.end(job.number))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())


def _pending(workspace: Workspace) -> Iterator[Job]:
    """The deployments of the server itself that are queued or running."""
    for job in [*workspace.dispatcher.running, *workspace.dispatcher.waiting]:
        if job.kind == JobKind.DEPLOY and _request(job).declared is True:
            yield job


def _request(job: Job) -> DeployJob:
    request = job.request.decode()
    assert isinstance(request, DeployJob)
    return request


def _is(deployed: Deployment | DeployJob, target: ServedVersion, declared: DeclaredModel) -> bool:
    return deployed.path == str(target.path) and _serves(deployed, declared)


def _serves(deployed: Deployment | DeployJob, declared: DeclaredModel) -> bool:
    """Whether it is served as declared. Some options can be changed without loading it again."""
    expected = declared.options
    options = replace(
        deployed.options, replicas=expected.replicas, idle_after_s=expected.idle_after_s, autoscale=expected.autoscale
    )
    return deployed.device == declared.device and options == expected


def _numbers(options: ModelOptions) -> tuple[int | None, Autoscale | None]:
    """What decides how many replicas there are: with autoscaling, their present number does not matter."""
    return (None, options.autoscale) if options.autoscale is not msgspec.UNSET else (options.replicas, None)


def _reason(outcome: Outcome) -> str:
    if outcome.error is None:
        return f"its deployment was {outcome.state}"
    return msgspec.json.decode(outcome.error, type=Failure).message
