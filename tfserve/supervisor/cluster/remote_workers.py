"""Starts workers on nodes, and recognises their bridges when they connect."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tfserve.cluster.identity import Authority
from tfserve.config import Settings, to_environment
from tfserve.errors import Forbidden, Kind, NotFound, TFserveError, Unavailable
from tfserve.ipc.connections import Connection, Handler
from tfserve.ipc.messages import (
    ActorEnded,
    BecomeModel,
    EndActor,
    OpenFiles,
    OpenWorker,
    Request,
    ServingModel,
    StartActor,
    StartWorker,
    WorkerOpened,
)
from tfserve.supervisor.cluster.adoption import Adoption, Offer
from tfserve.supervisor.cluster.carriers import Carrier
from tfserve.supervisor.cluster.files import HeadFiles
from tfserve.supervisor.cluster.nodes import Node, Nodes
from tfserve.supervisor.cluster.ray_process import RayProcess
from tfserve.supervisor.cluster.remote_child import BRIDGE_GRACE_S, RemoteChild, RemoteLimiter
from tfserve.supervisor.processes.child import Role
from tfserve.supervisor.processes.launchers import AdoptedModel, FullNode, NoMachine
from tfserve.supervisor.processes.limits import Limiter
from tfserve.supervisor.processes.worker import Carry, Send, Worker
from tfserve.supervisor.processes.workshop import PRIVATE_SETTINGS, when_ready

log = logging.getLogger(__name__)

START_S = 60.0
"""An actor whose bridge has not connected after this time is given up."""
SUSPECT_S = 5.0
"""For this time after the loss of an actor, other nodes are preferred: Ray may not know yet that the node is gone."""
FULL_S = 30.0
"""The same after the disk of a node was full."""
REQUEST_IDS = 1 << 32
"""Each head numbers its requests to workers from its epoch times this, so that no response of a worker that it adopts
is mistaken for that to another request."""


class WrongWorkerToken(Forbidden):
    """The token of worker {worker} is wrong."""


class NotYet(Unavailable):
    """The head has just started, and has not decided yet whether it adopts worker {worker}."""


class Replaced(Unavailable):
    """Worker {worker} has seen a newer head (epoch {seen}) than this one (epoch {epoch})."""


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
        nodes: Nodes, adoption: Adoption, files: HeadFiles,
    ) -> None:  # fmt: skip
        self.files = files
        self._settings = {k: v for k, v in to_environment(settings).items() if k not in PRIVATE_SETTINGS}
        self._key = authority.secret
        self._nodes = nodes
        self._adoption = adoption
        self._epoch = epoch
        self._ray = ray
        self._limiter = RemoteLimiter(limiter.memory_bytes, limiter.limits_of)
        self._started: dict[str, _Started] = {}

    async def start(self, node: Node, resources: dict[str, float], start: StartWorker) -> Worker:
        """A worker that is ready for a role. Raises `WorkerDied`, and `NoMachine` if Ray starts none."""
        child = RemoteChild(secrets.token_hex(8), node.name, first_request_id=self._epoch * REQUEST_IDS + 1)
        child.resources = resources
        worker = self._known(child, node, StartWorker(warm=start.warm, light=start.light, settings=self._settings))
        if node.ray is None:
            child.lose(f"Ray does not know node {node.name}")
            raise NoMachine(problem=f"Ray does not know node {node.name}.")
        child.expect(START_S, f"its actor on node {node.name} did not start within {START_S:g} s")
        try:
            await self._ray.start_actor(
                StartActor(
                    worker=child.worker, token=self._token(child.worker), node_id=node.ray.id,
                    heads=node.opened.heads, identity=node.opened.identity, name=node.name,
                    address=node.opened.address, resources=resources,
                )
            )  # fmt: skip
        except TFserveError as error:
            child.lose(f"its actor could not be started on node {node.name}: {error.message}")
            raise NoMachine(problem=f"an actor could not be started on node {node.name}: {error.message}") from None
        return await when_ready(worker)

    async def open(self, connection: Connection, member: str, request: OpenWorker) -> tuple[WorkerOpened, Handler]:
        """The opener for `OpenWorker`."""
        if not hmac.compare_digest(request.token, self._token(request.worker)) or request.node != member:
            raise WrongWorkerToken(worker=request.worker)
        if request.epoch > self._epoch:
            raise Replaced(worker=request.worker, seen=request.epoch, epoch=self._epoch)
        started = self._started.get(request.worker)
        if started is None and request.model is not None and request.epoch < self._epoch:
            return await self._adopted(connection, request, request.model)
        if started is None or not started.child.alive:
            raise UnknownWorker(worker=request.worker)
        start = started.start if not request.pid else None
        return self._attached(started.child, connection, request, start=start)

    async def _adopted(
        self, connection: Connection, request: OpenWorker, model: ServingModel
    ) -> tuple[WorkerOpened, Handler]:
        """Offers a worker of a former head to the deployment that it serves."""

        def make() -> Worker:
            node = self._nodes.get(request.node)
            child = RemoteChild(request.worker, request.node, first_request_id=self._epoch * REQUEST_IDS + 1)
            child.pid, child.resources = request.pid, request.resources
            worker = self._known(child, node, StartWorker())
            worker.ready.set_result(None)
            child.take_role(Role.MODEL, offer.become.workspace)
            child.expect(BRIDGE_GRACE_S, f"its actor on node {request.node} is gone")
            return worker

        offer = Offer(request, model, make)
        worker = await self._adoption.decide(offer)
        if worker is None or not worker.alive or not isinstance(worker.child, RemoteChild):
            raise UnknownWorker(worker=request.worker)
        return self._attached(worker.child, connection, request, adopted=True)

    def _attached(
        self, child: RemoteChild, connection: Connection, request: OpenWorker, *, start: StartWorker | None = None,
        adopted: bool = False,
    ) -> tuple[WorkerOpened, Handler]:  # fmt: skip
        """Continues after the response, on which the numbers of all messages depend."""
        asyncio.get_running_loop().call_soon(child.attach, connection, request)
        received = child.stream.received
        return WorkerOpened(epoch=self._epoch, received=received, start=start, adopted=adopted), child.received

    async def adopt(
        self, deployment: int, is_suitable: Callable[[BecomeModel], Awaitable[bool]]
    ) -> AdoptedModel | None:
        """A worker that still serves the deployment, if one is left."""
        return await self._adoption.find(deployment, is_suitable)

    async def open_files(self, connection: Connection, member: str, request: OpenFiles) -> tuple[None, Handler]:
        """The opener for `OpenFiles`."""
        if not hmac.compare_digest(request.token, self._token(request.worker)):
            raise WrongWorkerToken(worker=request.worker)
        started = self._started.get(request.worker)
        if started is None and self._adoption.left_s:
            raise NotYet(worker=request.worker)
        if started is None or not started.child.alive or started.child.node != member:
            raise UnknownWorker(worker=request.worker)
        return None, self.files.attach(request.worker, connection)

    def actor_ended(self, message: ActorEnded) -> None:
        if (started := self._started.get(message.worker)) is not None:
            started.child.actor_ended(message.cause)

    def _known(self, child: RemoteChild, node: Node | None, start: StartWorker) -> Worker:
        worker = Worker.over(child, child.open_line)
        worker.limiter = self._limiter
        worker.carry = self._carry(child)
        self._started[child.worker] = _Started(child, start)
        if node is not None:
            node.children.add(child)
            child.node_stops = node.is_stopping
        child.ended.add_done_callback(lambda _: self._forget(child))
        return worker

    def _carry(self, child: RemoteChild) -> Carry:
        """Sends requests with their files, and notes when those do not fit onto the disk of the node."""
        carrier = Carrier(self.files.of(child.worker))

        async def carry(request: Request[Any], send: Send) -> Any:
            is_sent = False

            async def sent(local: Request[Any]) -> Any:
                nonlocal is_sent
                is_sent = True
                return await send(local)

            try:
                return await carrier.carry(request, sent)
            except TFserveError as error:
                if not self._note_full(error, child.node) or is_sent:
                    raise
                raise FullNode(error.message, **error.detail) from None

        return carry

    def _note_full(self, error: TFserveError, name: str) -> bool:
        """Whether an error says that the disk of this node is full. Others are preferred for a while then."""
        if error.kind != Kind.OUT_OF_SPACE or error.detail.get("node") != name:
            return False
        if (node := self._nodes.get(name)) is not None:
            node.full_until = time.monotonic() + FULL_S
        return True

    def children_of(self, node: str) -> list[RemoteChild]:
        """Those that run on this node, also if they connected before it."""
        return [each.child for each in self._started.values() if each.child.node == node]

    def _forget(self, child: RemoteChild) -> None:
        self.files.closed(child.worker)
        self._started.pop(child.worker, None)
        if (node := self._nodes.get(child.node)) is not None:
            node.children.discard(child)
            if child.ended.result().lost is not None:
                node.suspect_until = time.monotonic() + SUSPECT_S
        self._nodes.changed.fire()
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
