"""Where workers come from: the spares of this machine, and with a cluster those of the nodes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from tfserve.errors import OutOfSpace, Unavailable
from tfserve.ipc.messages import BecomeModel, Demand, ModelLoaded
from tfserve.supervisor.events import Signal
from tfserve.supervisor.processes.child import Exit
from tfserve.supervisor.processes.restarts import Restarts
from tfserve.supervisor.processes.worker import Worker, WorkerDied

if TYPE_CHECKING:
    from tfserve.supervisor.cluster.cluster import Cluster

log = logging.getLogger(__name__)

T = TypeVar("T")

ANYWHERE = Demand()
ATTEMPTS = 3
"""How often a worker is started whose node is lost meanwhile."""


class Launcher(Protocol):
    """Starts workers on one machine."""

    async def start(self, *, warm: bool = False, light: str = "") -> Worker:
        """A new worker that is ready for a role. Raises `WorkerDied`, or `OSError` if no process can be started."""
        ...


@dataclass(frozen=True)
class AdoptedModel:
    """A model worker that served while the head was away, with what it was asked to load and its response."""

    worker: Worker
    become: BecomeModel
    loaded: ModelLoaded


class NoMachine(Unavailable):
    """No machine of the cluster can run this now: {problem}"""


class FullNode(OutOfSpace):
    """A request was not sent to a worker, because the disk of its node can't hold the files that belong to it."""


class _Kept:
    """Keeps one worker ready for a role."""

    def __init__(self, *, is_kept: bool, changed: Signal) -> None:
        self.is_kept = is_kept
        self.worker: Worker | None = None
        self.filling: asyncio.Task[None] | None = None
        self._changed = changed
        self._restarts = Restarts()

    def fill(self, start: Callable[[], Awaitable[Worker]]) -> None:
        """Starts a worker, unless there is one."""
        if self.is_kept and self.filling is None and self.worker is None:
            self.filling = asyncio.get_running_loop().create_task(self._fill(start))

    def take(self) -> Worker | None:
        worker, self.worker = self.worker, None
        return worker if worker is not None and worker.alive else None

    async def close(self) -> None:
        self.is_kept = False
        if self.filling is not None:
            self.filling.cancel()
            await asyncio.wait([self.filling])
        if self.worker is not None:
            self.worker.kill("the server is stopping")
            await asyncio.shield(self.worker.child.ended)

    async def _fill(self, start: Callable[[], Awaitable[Worker]]) -> None:
        try:
            await asyncio.sleep(self._restarts.delay_s(time.monotonic()))
            worker = await start()
        except (WorkerDied, Unavailable, OSError) as error:
            log.warning("could not start a spare worker: %s", error)
        else:
            self.worker = worker
            self._changed.fire()
            worker.child.ended.add_done_callback(lambda ended: self._on_end(worker, ended.result(), start))
        finally:
            self.filling = None

    def _on_end(self, worker: Worker, exit_: Exit, start: Callable[[], Awaitable[Worker]]) -> None:
        if self.worker is worker:
            self.worker = None
            self._restarts.died(now=time.monotonic(), lived_s=exit_.lived_s)
            self.fill(start)


class Spares:
    """Keeps one worker of a machine with TensorFlow loaded, so that a role starts in milliseconds.

    As soon as a model is served by another runtime, a light one is kept too: with that runtime and without TensorFlow.
    """

    def __init__(self, launcher: Launcher, *, is_kept: bool, changed: Signal) -> None:
        self.launcher = launcher
        self._warm = _Kept(is_kept=is_kept, changed=changed)
        self._light = _Kept(is_kept=is_kept, changed=changed)
        #: the runtime of the light one
        self._runtime = ""

    @classmethod
    def none_kept(cls, launcher: Launcher) -> Spares:
        """Each worker is started when it is needed."""
        return cls(launcher, is_kept=False, changed=Signal())

    @property
    def worker(self) -> Worker | None:
        return self._warm.worker

    @property
    def light_worker(self) -> Worker | None:
        return self._light.worker

    def fill(self) -> None:
        """Starts a spare, unless one exists."""
        self._warm.fill(partial(self.launcher.start, warm=True))
        if self._runtime:
            self._light.fill(partial(self.launcher.start, light=self._runtime))

    async def start_cold(self) -> Worker:
        """A new worker without TensorFlow, which leaves the spare for others. Raises `WorkerDied`, `Unavailable`."""
        return await self._start()

    async def take_light(self, runtime: str) -> Worker:
        """A worker with a runtime that is not TensorFlow. Call `fill` when it has loaded its model. Raises the same."""
        worker, known, self._runtime = self._light.take(), self._runtime, runtime
        if worker is not None and known != runtime:
            worker.kill("another runtime is needed")
            worker = None
        return worker or await self._start(light=runtime)

    async def take(self, *, needs_tensorflow: bool, refills: bool = True) -> Worker:
        """A worker without a role: the spare if it is ready or starting soon enough, otherwise a new one.

        Unless it `refills`, call `fill` when the role has begun: the next spare takes a processor for seconds. Raises
        `WorkerDied`, `Unavailable`.
        """
        if self._warm.worker is None and needs_tensorflow and self._warm.filling is not None:
            await asyncio.wait([self._warm.filling])  # it will be ready before a new one
        worker = self._warm.take() or await self._start(warm=needs_tensorflow)
        if refills:
            self.fill()
        return worker

    async def close(self) -> None:
        await self._warm.close()
        await self._light.close()

    async def _start(self, *, warm: bool = False, light: str = "") -> Worker:
        try:
            return await self.launcher.start(warm=warm, light=light)
        except OSError as error:
            raise Unavailable(f"Cannot start another process on this machine: {error.strerror}.") from error


class Spare:
    """Chooses the machine on which a worker starts. Without a cluster that is always this one."""

    def __init__(self, launcher: Launcher, *, is_kept: bool, changed: Signal) -> None:
        #: the workers of this machine
        self.here = Spares(launcher, is_kept=is_kept, changed=changed)
        #: set with a cluster
        self.elsewhere: Cluster | None = None

    def fill(self) -> None:
        """Starts the spares that are missing."""
        if self.elsewhere is not None:
            self.elsewhere.fill()
        else:
            self.here.fill()

    async def start_cold(self, demand: Demand = ANYWHERE) -> Worker:
        """A new worker without TensorFlow, which leaves the spare for others.

        Raises `WorkerDied`, `Unavailable`, and `NoMachine` if no machine meets the demand.
        """
        return await self._begin(demand, lambda machine: machine.start_cold())

    async def take_light(self, runtime: str, demand: Demand = ANYWHERE) -> Worker:
        """A worker with a runtime that is not TensorFlow. Call `fill` when it has loaded its model. Raises the same."""
        return await self._begin(demand, lambda machine: machine.take_light(runtime))

    async def take(self, *, needs_tensorflow: bool, refills: bool = True, demand: Demand = ANYWHERE) -> Worker:
        """A worker without a role: a spare if one is ready or starting soon enough, otherwise a new one.

        Unless it `refills`, call `fill` when the role has begun: the next spare takes a processor for seconds. Raises
        the same.
        """
        return await self._begin(
            demand, lambda machine: machine.take(needs_tensorflow=needs_tensorflow, refills=refills)
        )

    async def on_another(self, demand: Demand, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeats what takes a worker while the disk of its node is full and there are others.

        Raises `FullNode`, and what `attempt` raises.
        """
        while True:
            try:
                return await attempt()
            except FullNode as error:
                if not self.has_room_elsewhere(demand):
                    raise
                log.warning("%s Another node is tried.", error)

    def has_room_elsewhere(self, demand: Demand) -> bool:
        """Whether a machine meets the demand whose disk was not found full a moment ago."""
        return self.elsewhere is not None and self.elsewhere.has_room_elsewhere(demand)

    async def adopt(
        self, deployment: int, is_suitable: Callable[[BecomeModel], Awaitable[bool]]
    ) -> AdoptedModel | None:
        """A worker on a node that has served this deployment since before this server started."""
        return await self.elsewhere.adopt(deployment, is_suitable) if self.elsewhere is not None else None

    async def wait_for_placement(self) -> None:
        """Returns when a demand that no machine met may be met."""
        if self.elsewhere is not None:
            await self.elsewhere.wait_for_change()

    async def close(self) -> None:
        if self.elsewhere is not None:
            await self.elsewhere.close()
        await self.here.close()

    async def _begin(self, demand: Demand, start: Callable[[Spares], Awaitable[Worker]]) -> Worker:
        """A worker whose node was lost, or is about to stop, before it had a role is started on another one."""
        for _ in range(ATTEMPTS - 1):
            try:
                worker = await start(await self._place(demand))
            except WorkerDied as death:
                if death.exit.lost is None:
                    raise
            else:
                if not worker.node_stops:
                    return worker
                worker.kill("its node is about to stop")
        return await start(await self._place(demand))

    async def _place(self, demand: Demand) -> Spares:
        if self.elsewhere is not None:
            return await self.elsewhere.place(demand)
        return self.here
