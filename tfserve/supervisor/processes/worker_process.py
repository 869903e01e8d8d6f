"""What a worker's process must offer, wherever it runs: `Child` on this machine, `RemoteChild` on a node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from tfserve.linux import Use
from tfserve.supervisor.processes.child import Exit, Role
from tfserve.supervisor.processes.limits import Exceeded, Limited
from tfserve.supervisor.processes.output import OfferedPipes, Sink


class Drainable(Protocol):
    """A source of output."""

    def drain(self) -> None:
        """Delivers what has been printed so far."""


class WorkerProcess(Protocol):
    """A process with a worker. `ended` becomes its `Exit`."""

    pid: int
    #: the name of the machine that it runs on
    node: str
    #: whether that machine is about to stop, so that this process is to be replaced
    node_stops: bool
    role: Role
    workspace: str
    exceeded: Exceeded | None
    find_exceeded: Callable[[], Exceeded | None] | None
    end_requested: bool
    ended: asyncio.Future[Exit]

    @property
    def alive(self) -> bool: ...

    def take_role(self, role: Role, workspace: str) -> None: ...

    def read_output(self, deliver: Sink) -> Sequence[Drainable]: ...

    def offer_pipes(self) -> AbstractAsyncContextManager[OfferedPipes]: ...

    def memory_bytes(self) -> int: ...

    def use(self) -> Use: ...

    @property
    def age_s(self) -> float:
        """Since it got its role."""

    def terminate(self) -> None: ...

    def kill(self, because: str) -> None: ...

    def kill_descendants(self) -> None: ...


class WorkerLimiter(Protocol):
    """Limits what a worker may use."""

    def memory_bytes(self, workspace: str) -> int: ...

    def apply(self, child: Limited, workspace: str, *, has_scripts: bool) -> None: ...
