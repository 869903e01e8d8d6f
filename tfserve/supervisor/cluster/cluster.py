"""A cluster, put together: the port at which nodes connect, Ray, and the choice of a machine for each worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from tfserve.cluster.connecting import parse_address
from tfserve.cluster.identity import Authority
from tfserve.cluster.shared_settings import shared
from tfserve.config import Settings
from tfserve.ipc.connections import Connection, Handler
from tfserve.ipc.messages import (
    BecomeModel,
    Demand,
    Join,
    LeaveNode,
    Message,
    NodeOpened,
    NodeState,
    OpenFiles,
    OpenNode,
    OpenWorker,
    RayNodes,
)
from tfserve.supervisor.cluster.adoption import Adoption
from tfserve.supervisor.cluster.files import HeadFiles
from tfserve.supervisor.cluster.joining import Joining
from tfserve.supervisor.cluster.local_ray import LocalRay
from tfserve.supervisor.cluster.nodes import Node, Nodes
from tfserve.supervisor.cluster.own_address import host_of
from tfserve.supervisor.cluster.placement import CandidateNode, amounts, choose, for_ray, shortage
from tfserve.supervisor.cluster.port import ClusterPort
from tfserve.supervisor.cluster.ray_environment import of_own_ray, of_running_ray
from tfserve.supervisor.cluster.ray_process import RayProcess
from tfserve.supervisor.cluster.remote_workers import NodeLauncher, RemoteWorkers
from tfserve.supervisor.cluster.this_node import ThisNode
from tfserve.supervisor.events import Signal
from tfserve.supervisor.processes.launchers import AdoptedModel, NoMachine, Spare, Spares
from tfserve.supervisor.processes.limits import Limiter
from tfserve.supervisor.this_machine import CannotBeMet
from tfserve.supervisor.web_processes import SupervisorService

log = logging.getLogger(__name__)

FIRST_NODE_S = 20.0
"""How long a demand waits for a node while none is connected: after a start of the head they connect again."""
STARTING_S = 60.0
"""The same while nodes are connected that Ray does not know yet, or Ray is starting."""


Evacuate = Callable[[float, Callable[[], bool], Callable[[], bool]], Awaitable[None]]
"""`Evacuation.run`"""


class Cluster:
    """The nodes of this head, as a source of workers. `service` is what a node gets like a web process."""

    def __init__(
        self,
        settings: Settings,
        *,
        epoch: int,
        owner: str,
        spare: Spare,
        limiter: Limiter,
        changed: Signal,
        callers_umask: int,
    ) -> None:
        """Opens the port. Raises `OSError` if it is in use."""
        self._settings = settings
        self._epoch = epoch
        self._spare = spare
        self._here = ThisNode(spare.here, host_of(settings))
        self._changed = changed
        authority = Authority.open(settings.data_path / "cluster")
        self.files = HeadFiles(settings, callers_umask)
        self.authority = authority
        self.service: asyncio.Future[SupervisorService] = asyncio.get_running_loop().create_future()
        #: moves away what a node runs that is about to stop
        self.evacuate: Evacuate | None = None
        self.port = ClusterPort(authority, settings.cluster_host, settings.cluster_port)
        self.nodes = Nodes(epoch=epoch, changed=changed, opened=self._opened, handle=self._handler)
        is_own = settings.cluster == "ray"
        self._ray_environment = of_own_ray(authority.secret) if is_own else of_running_ray()
        self._local_ray = LocalRay(settings, owner, self._ray_environment) if is_own else None
        self._ray_address = "" if self._local_ray else settings.cluster.removeprefix("ray://")
        self._owner = owner
        self._limiter = limiter
        self._adoption = Adoption(expects_offers=epoch > 1)
        self._ray: RayProcess | None = None
        self._workers: RemoteWorkers | None = None
        self._fills = False

    @property
    def workers(self) -> RemoteWorkers:
        assert self._workers is not None  # after `begin`
        return self._workers

    async def begin(self) -> None:
        """Accepts nodes from now on. Ray may take longer."""
        if self._local_ray is not None:
            self._ray_address = await self._local_ray.begin()
        self._ray = RayProcess(
            self._ray_address,
            f"tfserve-{self.authority.join_token().head_pin[:4].hex()}",
            self._owner,
            environment=self._ray_environment,
            on_nodes=self._on_ray_nodes,
            on_actor_ended=lambda message: self.workers.actor_ended(message),
        )
        self._workers = RemoteWorkers(
            self._settings, self.authority, epoch=self._epoch, ray=self._ray, limiter=self._limiter,
            nodes=self.nodes, adoption=self._adoption, files=self.files,
        )  # fmt: skip
        self.nodes.children_of = self._workers.children_of
        self.port.openers[OpenFiles] = self._workers.open_files
        self.port.openers[Join] = Joining(self.authority).open
        self.port.openers[OpenNode] = self.nodes.open
        self.port.openers[OpenWorker] = self._workers.open
        await self.port.begin()
        self._ray.begin()

    async def serve(self, service: SupervisorService) -> None:
        """Nodes get the models from now on, like web processes. Until they are restored, nodes serve what they know."""
        await self._adoption.end()
        self.service.set_result(service)

    async def fence(self) -> None:
        """Another server has taken the database: nodes are not answered any more, so that they look for that one."""
        log.error("another head has taken over: the cluster port %s is closed", self.port.number)
        await self.port.close()

    async def close(self) -> None:
        for node in self.nodes:
            if node.spares is not None:
                await node.spares.close()
        self.nodes.close()
        if self._ray is not None:
            await self._ray.close()
        await self.port.close()
        if self._local_ray is not None:
            await self._local_ray.close()
        self.files.close()

    # --- a source of workers

    async def place(self, demand: Demand) -> Spares:
        """The machine on which a worker starts. Raises `NoMachine`, `Invalid`."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while True:
            choice = choose(demand, self._preferred())
            choice = choice if choice.node is not None else choose(demand, self._candidates())
            if choice.node is not None:
                return self._place_on(choice.node, demand)
            left_s = begun + (STARTING_S if self._is_starting else FIRST_NODE_S) - loop.time()
            if self._candidates() or left_s <= 0:
                raise NoMachine(problem=self._why(choice.problem))
            await self._changed.wait(left_s)

    async def adopt(
        self, deployment: int, is_suitable: Callable[[BecomeModel], Awaitable[bool]]
    ) -> AdoptedModel | None:
        """A worker that still serves this deployment, if a suitable one is left."""
        return await self.workers.adopt(deployment, is_suitable)

    def has_room_elsewhere(self, demand: Demand) -> bool:
        """Whether a machine meets the demand now whose disk was not found full a moment ago."""
        return choose(demand, self._preferred()).node is not None

    async def wait_for_change(self) -> None:
        """Returns when a machine may meet a demand that it did not meet before."""
        await self._changed.wait(60.0)

    def fill(self) -> None:
        """Keeps a spare on each machine that takes workers."""
        if self._settings.head_runs_workers:
            self._spare.here.fill()
        for node in self.nodes:
            if node.is_ready:
                self._spares_of(node).fill()

    def states(self) -> list[NodeState]:
        """The head first, then the nodes, then those that are gone."""
        return [self._here.state(), *(node.state(self.nodes.ray_problem) for node in self.nodes), *self.nodes.gone]

    def check(self, demand: Demand, count: int = 1) -> None:
        """Raises `CannotBeMet` if the nodes can never run this many at a time, `Invalid` if it can't be read."""
        candidates = self._candidates()
        if candidates and (problem := shortage(demand, count, candidates)):
            raise CannotBeMet(problem)

    def _preferred(self) -> list[CandidateNode]:
        """Those without a reason to avoid them."""
        suspects = {node.name for node in self.nodes if node.is_suspect}
        return [each for each in self._candidates() if each.name not in suspects]

    def _candidates(self) -> list[CandidateNode]:
        ready = [node for node in self.nodes if node.is_ready]
        found = [CandidateNode(node.name, node.total, node.free, node.workers) for node in ready]
        if self._settings.head_runs_workers:
            own = self._here.state()
            found.insert(0, CandidateNode(own.name, own.resources, own.free, own.workers))
        return found

    def _place_on(self, name: str, demand: Demand) -> Spares:
        needs, _ = amounts(demand)
        node = self.nodes.get(name)
        if node is None:
            return self._here.place_for(needs)
        if needs:
            return Spares.none_kept(NodeLauncher(self.workers, node, for_ray(needs)))
        return self._spares_of(node)

    def _spares_of(self, node: Node) -> Spares:
        if node.spares is None:
            launcher = NodeLauncher(self.workers, node, {})
            node.spares = Spares(launcher, is_kept=self._settings.warm_spare, changed=self._changed)
        return node.spares

    @property
    def _is_starting(self) -> bool:
        return any(not node.is_stopping for node in self.nodes) or (self._ray is not None and bool(self._ray.problem))

    def _why(self, problem: str) -> str:
        if starting := ", ".join(node.name for node in self.nodes if node.is_starting):
            problem = f"{problem} Ray does not know {starting} yet."
        if stopping := ", ".join(node.name for node in self.nodes if node.is_stopping):
            problem = f"{problem} About to stop: {stopping}."
        return f"{problem} Ray can't be reached: {self._ray_problem}." if self._ray_problem else problem

    @property
    def _ray_problem(self) -> str:
        """Why Ray can't be reached; empty while it can."""
        problem = self._ray.problem if self._ray is not None else ""
        own = self._local_ray.problem if self._local_ray is not None else ""
        return f"{problem}; {own}" if problem and own else problem

    # --- nodes

    def _opened(self, request: OpenNode) -> NodeOpened:
        host, _ = parse_address(request.head)
        return NodeOpened(
            epoch=self._epoch, ray_address=self._ray_address, ray_environment=self._ray_environment,
            head_url=f"https://{f'[{host}]' if ':' in host else host}:{self._settings.cluster_http_port}",
            settings=shared(self._settings),
        )  # fmt: skip

    def _handler(self, line: Connection) -> Handler:
        async def handle(message: Message) -> Any:
            if isinstance(message, LeaveNode):
                return await self._leave(line, message.drain_s)
            service = await asyncio.shield(self.service)
            if (subscribe := service.subscriptions.get(type(message))) is not None:
                return subscribe(line)
            return await service.handle(message)

        return handle

    async def _leave(self, line: Connection, drain_s: float) -> None:
        node = self.nodes.begin_stop(line)
        if node is None or self.evacuate is None:
            return
        if node.spares is not None:
            await node.spares.close()
        await self.evacuate(drain_s, lambda: node.is_used, lambda: bool(self._candidates()))

    def _on_ray_nodes(self, message: RayNodes) -> None:
        self.nodes.ray_problem = self._ray_problem
        self.nodes.set_ray(message.nodes)
        if self._fills:
            self.fill()

    def begin_filling(self) -> None:
        """From now on each new node gets a spare."""
        self._fills = True
        self.fill()
