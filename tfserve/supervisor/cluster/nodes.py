"""The machines of the cluster: their lines, whether they respond, and what Ray knows of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tfserve.errors import Conflict, Forbidden
from tfserve.ipc.connections import Connection, ConnectionLost, Handler
from tfserve.ipc.messages import NodeOpened, NodeState, OpenNode, PingNode, RayNode
from tfserve.linux import Use
from tfserve.supervisor.background import BackgroundTasks
from tfserve.supervisor.cluster.joining import require_version
from tfserve.supervisor.cluster.placement import from_ray
from tfserve.supervisor.cluster.remote_child import RemoteChild
from tfserve.supervisor.events import Signal
from tfserve.supervisor.processes.child import Role
from tfserve.supervisor.processes.launchers import Spares

log = logging.getLogger(__name__)

PING_S = 1.0
SILENCE_S = 5.0
"""A node that does not respond for this time is gone."""
REOPEN_S = 5.0
"""A node whose line was closed has this time to open another one."""
MAX_GONE = 50
STOPPED = "it was stopped"


class NameTaken(Conflict):
    """A node {name} is connected already, from {address}. Choose another name: tfserve node … --name NAME"""


class NewerHead(Forbidden):
    """Node {name} has seen a newer head (epoch {seen}; this one has {epoch}). This head has been replaced."""


class NotThatNode(Forbidden):
    """The certificate is that of node {member}, not of {name}."""


@dataclass(eq=False)
class Node:
    """A machine that takes workers."""

    opened: OpenNode
    line: Connection
    since: float
    ray: RayNode | None = None
    children: set[RemoteChild] = field(default_factory=set)
    spares: Spares | None = None
    suspect_until: float = 0.0
    full_until: float = 0.0
    #: it gets no more work
    is_stopping: bool = False

    @property
    def name(self) -> str:
        return self.opened.name

    @property
    def is_ready(self) -> bool:
        return self.ray is not None and not self.line.lost.done() and not self.is_stopping

    @property
    def is_starting(self) -> bool:
        """Whether Ray does not know it yet."""
        return self.ray is None and not self.is_stopping

    @property
    def is_suspect(self) -> bool:
        """Whether others are preferred: an actor was lost a moment ago, or the disk was full."""
        return time.monotonic() < max(self.suspect_until, self.full_until)

    @property
    def total(self) -> dict[str, float]:
        return from_ray(self.ray.total) if self.ray is not None else {}

    @property
    def free(self) -> dict[str, float]:
        """What neither Ray's other programs nor our workers have taken. Ray's figure is a second old."""
        if self.ray is None:
            return {}
        free = dict(self.ray.free)
        for name, amount in self.ray.total.items():
            ours = sum(child.resources.get(name, 0.0) for child in self.children)
            free[name] = min(free.get(name, 0.0), amount - ours)
        return from_ray(free)

    @property
    def workers(self) -> int:
        """How many of its workers have a role."""
        return sum(child.role != Role.SPARE for child in self.children)

    @property
    def is_used(self) -> bool:
        """Whether models, trainings or conversions run there. Scripts are not counted: most wait for their next job."""
        return any(child.role in (Role.MODEL, Role.TRAIN, Role.CONVERT) for child in self.children)

    def state(self, problem: str = "") -> NodeState:
        """`problem` says why Ray can't be reached."""
        state, reason = "ready", ""
        if self.is_stopping:
            state, reason = "stopping", "what runs there ends or moves to other machines"
        elif not self.is_ready:
            state, reason = "starting", f"Ray does not know the node yet{problem and f' ({problem})'}"
        return NodeState(
            name=self.name, address=self.opened.address, state=state, reason=reason, version=self.opened.version,
            http=self.opened.http, resources=self.total, free=self.free, workers=self.workers, since=self.since,
        )  # fmt: skip


class Nodes:
    """All nodes, by name. They do not include the head."""

    def __init__(
        self,
        *,
        epoch: int,
        changed: Signal,
        opened: Callable[[OpenNode], NodeOpened],
        handle: Callable[[Connection], Handler],
    ) -> None:
        """`opened` makes the response to a node, `handle` what handles the messages on its line."""
        self.changed = changed
        self._epoch = epoch
        self._opened = opened
        self._handle = handle
        self._by_name: dict[str, Node] = {}
        self._gone: dict[str, NodeState] = {}
        self._ray: Sequence[RayNode] = ()
        #: why Ray can't be reached
        self.ray_problem = ""
        self._tasks = BackgroundTasks()
        #: the workers that are connected from a node which is not
        self.children_of: Callable[[str], Iterable[RemoteChild]] = lambda _: ()

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._by_name.values()))

    def get(self, name: str) -> Node | None:
        return self._by_name.get(name)

    @property
    def gone(self) -> list[NodeState]:
        return list(self._gone.values())

    async def open(self, connection: Connection, member: str, request: OpenNode) -> tuple[NodeOpened, Handler]:
        """The opener for `OpenNode`."""
        if request.name != member:
            raise NotThatNode(member=member, name=request.name)
        require_version(request.name, request.version)
        if request.epoch > self._epoch:
            raise NewerHead(name=request.name, seen=request.epoch, epoch=self._epoch)
        node = self._by_name.get(request.name)
        if node is None:
            node = self._by_name[request.name] = Node(request, connection, time.time())
            node.children.update(self.children_of(node.name))
            self._gone.pop(request.name, None)
            self._match(node)
        elif not node.line.lost.done() and node.opened.address != request.address:
            raise NameTaken(name=request.name, address=node.opened.address)
        else:
            former, node.line, node.opened, node.is_stopping = node.line, connection, request, False
            former.abort()
            _set_away(node, "")
        log.info("node %s is connected from %s", request.name, request.address)
        self._tasks.start(self._watch(node, connection))
        self.changed.fire()
        return self._opened(request), self._handle(connection)

    def begin_stop(self, line: Connection) -> Node | None:
        """The node with this line is about to stop: it gets no more work. None if it has another line meanwhile."""
        node = next((each for each in self if each.line is line), None)
        if node is not None:
            log.info("node %s is about to stop", node.name)
            node.is_stopping = True
            for child in node.children:
                child.node_stops = True
            self.changed.fire()
        return node

    def set_ray(self, found: Sequence[RayNode]) -> None:
        """Takes over what Ray knows."""
        self._ray = found
        before = [(node.name, node.is_ready) for node in self]
        for node in self:
            self._match(node)
            if node.ray is None:
                for child in [each for each in node.children if not each.pid]:
                    child.lose(f"Ray has lost node {node.name} before the worker was started")
        if before != [(node.name, node.is_ready) for node in self]:
            self.changed.fire()

    def close(self) -> None:
        self._tasks.cancel()

    def _match(self, node: Node) -> None:
        """Finds the node among Ray's: by the name in its label, or else by its address."""
        named = [each for each in self._ray if each.name == node.name]
        at_address = [each for each in self._ray if not each.name and each.address == node.opened.address]
        node.ray = next(iter([*named, *at_address]), None)

    async def _watch(self, node: Node, line: Connection) -> None:
        """Pings the node until it does not respond, and gives it up unless it opens another line."""
        answered_at = time.monotonic()
        while not line.lost.done() and time.monotonic() - answered_at < SILENCE_S:
            with contextlib.suppress(TimeoutError, ConnectionLost):
                async with asyncio.timeout(SILENCE_S - (time.monotonic() - answered_at)):
                    found = await line.ask(PingNode(pids=[child.pid for child in node.children if child.pid]))
                    answered_at = time.monotonic()
                    for child in node.children:
                        child.last_use = Use(*found.uses.get(child.pid, child.last_use))
                await asyncio.wait([line.lost], timeout=PING_S)
        if not line.lost.done():
            line.abort()
            self._lose(node, line, f"it did not respond for {SILENCE_S:g} s")
            return
        if node.line is line and node.is_stopping:
            self._lose(node, line, STOPPED)
            return
        if node.line is not line:  # it has opened another one
            return
        _set_away(node, node.opened.address)
        self.changed.fire()
        await asyncio.sleep(REOPEN_S)
        self._lose(node, line, "its connection was closed")

    def _lose(self, node: Node, line: Connection, why: str) -> None:
        if node.line is not line or self._by_name.get(node.name) is not node:
            return
        level = logging.INFO if why is STOPPED else logging.ERROR
        log.log(level, "node %s (%s) is gone: %s", node.name, node.opened.address, why)
        del self._by_name[node.name]
        gone = node.state()
        self._gone[node.name] = NodeState(
            name=gone.name, address=gone.address, state="gone", reason=why, version=gone.version, since=time.time()
        )
        for name in list(self._gone)[:-MAX_GONE]:
            del self._gone[name]
        for child in list(node.children):
            child.lose(f"node {node.opened.address} {'was stopped' if why is STOPPED else 'is gone'}")
        if node.spares is not None:
            self._tasks.start(node.spares.close())
        self.changed.fire()


def _set_away(node: Node, address: str) -> None:
    """Notes for its workers whether the node itself is out of reach, which explains their own end."""
    for child in node.children:
        child.node_away = address
