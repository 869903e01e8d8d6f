"""Starts workers on nodes, and recognises their bridges when they connect."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from dataclasses import dataclass

from tfserve.cluster.identity import Authority
from tfserve.config import Settings, to_environment
from tfserve.errors import Forbidden, NotFound, TFserveError
from tfserve.ipc.connections import Connection, Handler
from tfserve.ipc.messages import (
    ActorEnded,
    EndActor,
    Message,
    OpenFiles,
    OpenWorker,
    StartActor,
    StartWorker,
    WorkerOpened,
)
from tfserve.supervisor.cluster.carriers import Carrier
from tfserve.supervisor.cluster.files import HeadFiles
from tfserve.supervisor.cluster.nodes import Node
from tfserve.supervisor.cluster.ray_process import RayProcess
from tfserve.supervisor.cluster.remote_child import RemoteChild, RemoteLimiter
from tfserve.supervisor.processes.limits import Limiter
from tfserve.supervisor.processes.worker import Worker
from tfserve.supervisor.processes.workshop import PRIVATE_SETTINGS, when_ready

log = logging.getLogger(__name__)

START_S = 60.0
"""An actor whose bridge has not connected after this time is given up."""
REQUEST_IDS = 1 << 32
"""Each head numbers its requests to workers from its epoch times this, so that no response of a worker that it adopts
is mistaken for that to another request."""


class WrongWorkerToken(Forbidden):
    """The token of worker {worker} is wrong."""


class UnknownWorker(NotFound):
    """The head does not know worker {worker} any more: it has replaced it, or its node was given up."""


@dataclass(eq=False)
class _Started:
    child: RemoteChild
    start: StartWorker


class RemoteWorkers:
    """All workers on nodes."""

    def __init__(
        self, settings: Settings, authority: Authority, *, epoch: int, ray: RayProcess, limiter: Limiter,
        files: HeadFiles,
    ) -> None:  # fmt: skip
        self.files = files
        self._settings = {k: v for k, v in to_environment(settings).items() if k not in PRIVATE_SETTINGS}
        self._key = authority.secret
        self._epoch = epoch
        self._ray = ray
        self._limiter = RemoteLimiter(limiter.memory_bytes, limiter.limits_of)
        self._started: dict[str, _Started] = {}

    async def start(self, node: Node, resources: dict[str, float], start: StartWorker) -> Worker:
        """A worker that is ready for a role. Raises `WorkerDied`."""
        child = RemoteChild(secrets.token_hex(8), node.name, first_request_id=self._epoch * REQUEST_IDS + 1)
        child.resources = resources
        worker = self._known(child, node, StartWorker(warm=start.warm, light=start.light, settings=self._settings))
        child.expect(START_S, f"its actor on node {node.name} did not start within {START_S:g} s")
        try:
            await self._ray.start_actor(
                StartActor(
                    worker=child.worker, token=self._token(child.worker), node_id=node.ray.id if node.ray else "",
                    head=node.opened.head, identity=node.opened.identity, name=node.name,
                    address=node.opened.address, resources=resources,
                )
            )  # fmt: skip
        except TFserveError as error:
            child.lose(f"its actor could not be started on node {node.name}: {error.message}")
        return await when_ready(worker)

    async def open(self, connection: Connection, member: str, request: OpenWorker) -> tuple[WorkerOpened, Handler]:
        """The opener for `OpenWorker`."""
        if not hmac.compare_digest(request.token, self._token(request.worker)) or request.node != member:
            raise WrongWorkerToken(worker=request.worker)
        started = self._started.get(request.worker)
        if started is None or not started.child.alive:
            raise UnknownWorker(worker=request.worker)
        child = started.child
        child.attach(connection, request)
        start = started.start if not request.pid else None
        return WorkerOpened(epoch=self._epoch, received=child.stream.received, start=start), child.received

    async def open_files(self, connection: Connection, member: str, request: OpenFiles) -> tuple[None, Handler]:
        """The opener for `OpenFiles`."""
        if not hmac.compare_digest(request.token, self._token(request.worker)):
            raise WrongWorkerToken(worker=request.worker)
        started = self._started.get(request.worker)
        if started is None or not started.child.alive or started.child.node != member:
            raise UnknownWorker(worker=request.worker)
        return None, self.files.attach(request.worker, connection)

    def actor_ended(self, message: ActorEnded) -> None:
        if (started := self._started.get(message.worker)) is not None:
            started.child.actor_ended(message.cause)

    def _known(self, child: RemoteChild, node: Node, start: StartWorker) -> Worker:
        worker = Worker.over(child, child.open_line)
        worker.limiter = self._limiter
        worker.carry = Carrier(self.files.of(child.worker)).carry
        self._started[child.worker] = _Started(child, start)
        node.children.add(child)
        child.ended.add_done_callback(lambda _: self._forget(child, node))
        return worker

    def _forget(self, child: RemoteChild, node: Node) -> None:
        self.files.closed(child.worker)
        self._started.pop(child.worker, None)
        node.children.discard(child)
        self._ray.notify(EndActor(worker=child.worker))

    def _token(self, worker: str) -> str:
        return hmac.new(self._key, worker.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class NodeLauncher:
    """Starts workers on one node, each with the same resources."""

    workers: RemoteWorkers
    node: Node
    resources: dict[str, float]

    async def start(self, *, warm: bool = False, light: str = "") -> Worker:
        return await self.workers.start(self.node, self.resources, StartWorker(warm=warm, light=light))


def unexpected(message: Message) -> str:
    return f"the Ray driver sent {type(message).__name__}"
