"""The Ray driver as the head sees it: a process of its own, because a Ray node that dies kills its driver."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping

from tfserve.errors import Unavailable
from tfserve.ipc.connections import Connection, ConnectionLost
from tfserve.ipc.messages import ActorEnded, Message, RayNodes, StartActor
from tfserve.supervisor.processes.child import OWNER, Child, Role
from tfserve.supervisor.processes.restarts import Restarts

log = logging.getLogger(__name__)

STOP_S = 3.0
START_S = 20.0


class RayAway(Unavailable):
    """Ray can't be reached: {problem}"""


class RayProcess:
    """Keeps the driver alive."""

    def __init__(
        self, address: str, namespace: str, owner: str, *, environment: Mapping[str, str],
        on_nodes: Callable[[RayNodes], None], on_actor_ended: Callable[[ActorEnded], None],
    ) -> None:  # fmt: skip
        """`address` is that of Ray's GCS."""
        self.problem = "its driver is starting"
        self._address = address
        self._namespace = namespace
        self._owner = owner
        self._environment = environment
        self._on_nodes = on_nodes
        self._on_actor_ended = on_actor_ended
        self._child: Child | None = None
        self._line: Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._restarts = Restarts()

    def begin(self) -> None:
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Ends the driver. Its actors end with their workers."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._child is not None:
            await self._child.stop(STOP_S)

    async def start_actor(self, request: StartActor) -> None:
        """Returns when Ray has accepted it. Raises `RayAway`, or Ray's reason."""
        if self._line is None or self.problem:
            raise RayAway(problem=self.problem or "its driver is starting")
        try:
            async with asyncio.timeout(START_S):
                await self._line.ask(request)
        except (ConnectionLost, TimeoutError):
            raise RayAway(problem="its driver does not respond") from None

    def notify(self, message: Message) -> None:
        if self._line is not None:
            self._line.notify(message)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._restarts.delay_s(time.monotonic()))
            started_at = time.monotonic()
            try:
                await self._start()
                assert self._child is not None
                ended = await asyncio.shield(self._child.ended)
                self._away(f"its driver ended: {ended.sentence}")
            except OSError as error:
                self._away(f"its driver can't be started: {error}")
            self._restarts.died(now=time.monotonic(), lived_s=time.monotonic() - started_at)

    def _away(self, problem: str) -> None:
        self._line = None
        if problem != self.problem:
            log.error("Ray: %s", problem)
        self.problem = problem
        self._on_nodes(RayNodes(nodes=[], problem=problem))

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._child = Child.start(
                    [
                        sys.executable,
                        "-P",
                        "-m",
                        "tfserve.supervisor.cluster.ray_driver",
                        "--line",
                        str(theirs.fileno()),
                        "--address",
                        self._address,
                        "--namespace",
                        self._namespace,
                    ],
                    role=Role.RAY,
                    environment={**os.environ, OWNER: self._owner, **self._environment},
                    keep_fds=[theirs.fileno()],
                )
            except OSError:
                ours.close()
                raise
        self._line = await Connection.open(ours, self._received)

    async def _received(self, message: Message) -> None:
        if isinstance(message, RayNodes):
            self._take_nodes(message)
        elif isinstance(message, ActorEnded):
            self._on_actor_ended(message)

    def _take_nodes(self, message: RayNodes) -> None:
        if message.problem != self.problem:
            log.log(logging.WARNING if message.problem else logging.INFO, "Ray: %s", message.problem or "connected")
        self.problem = message.problem
        with contextlib.suppress(ConnectionLost):
            self._on_nodes(message)
