"""The replicas of one model version, and which of them is asked next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from tfserve.cluster.addresses import ReplicaAddress
from tfserve.cluster.membership import Membership
from tfserve.web.predictions.model_connections import ModelConnection

log = logging.getLogger(__name__)

OPEN_S = 4.0
"""Maximum time that an announcement waits for a connection to another machine. It is opened in the background then."""
FIRST_DELAY_S = 0.1
MAX_DELAY_S = 5.0


class ReplicaLine(Protocol):
    """What the choice between replicas depends on."""

    @property
    def alive(self) -> bool: ...

    @property
    def load(self) -> int: ...

    @property
    def is_near(self) -> bool: ...


L = TypeVar("L", bound=ReplicaLine)


def least_busy(lines: Iterable[L]) -> L | None:
    """The line with the fewest predictions in flight; among equals one to this machine. None when none is alive."""
    best: L | None = None
    for line in lines:
        if not line.alive:
            continue
        if best is None or line.load < best.load or (line.load == best.load and line.is_near > best.is_near):
            best = line
    return best


class ReplicaPool:
    """One line to each replica. A line to another machine that breaks is opened again while the replica is announced.

    A line on this machine only breaks when the process at its other end is gone.
    """

    def __init__(self, membership: Membership | None = None) -> None:
        self._membership = membership
        self._lines: dict[str, ModelConnection] = {}
        #: what takes nothing more, until its process closes the line
        self._retired: dict[str, ModelConnection] = {}
        #: open lines to other machines
        self._connecting: dict[str, asyncio.Task[None]] = {}
        #: set, and replaced by a new one, when a line to another machine has been opened
        self.changed = asyncio.Event()

    @property
    def alive(self) -> bool:
        return any(line.alive for line in self._lines.values())

    def least_busy(self) -> ModelConnection | None:
        """The line to use for the next prediction; None when no replica is there."""
        return least_busy(self._lines.values())

    async def open(self, addresses: Sequence[str]) -> None:
        """Connects to new replicas."""
        new = [address for address in addresses if not self._is_open(address)]
        if new:
            await asyncio.gather(*(self._open(address) for address in new))
            # Hashes differ between processes, so that idle processes do not all begin with the same replica.
            self._lines = dict(sorted(self._lines.items(), key=lambda item: hash(item[0])))

    def keep(self, addresses: Sequence[str]) -> None:
        """Replicas that are not named get nothing more, and answer what they have."""
        for address in self._connecting.keys() - set(addresses):
            self._connecting.pop(address).cancel()
        for address in self._lines.keys() - set(addresses):
            self._retire(address)

    async def drained(self, addresses: Sequence[str]) -> None:
        """Returns when nothing is in flight to these replicas."""
        lines = [self._lines.get(address) or self._retired.get(address) for address in addresses]
        await asyncio.gather(*(line.drained() for line in lines if line is not None))

    def close(self) -> None:
        self.keep(())
        for line in list(self._retired.values()):
            line.close()

    def _retire(self, address: str) -> None:
        line = self._retired[address] = self._lines.pop(address)
        line.lost.add_done_callback(lambda _: self._retired.pop(address, None))

    def _is_open(self, address: str) -> bool:
        line = self._lines.get(address)
        return line is not None and line.alive

    async def _open(self, address: str) -> None:
        if self._is_near(address):
            try:
                self._lines[address] = await ModelConnection.open(address, self._membership)
            except OSError as error:  # it has died meanwhile, which the supervisor announces next
                log.warning("a model worker can't be reached: %s", error)
            return
        if address not in self._connecting:
            self._connect(address, delay_s=0.0)
        await asyncio.wait([self._connecting[address]], timeout=OPEN_S)

    def _is_near(self, address: str) -> bool:
        return ReplicaAddress.parse(address).is_near(self._membership.node if self._membership is not None else None)

    def _connect(self, address: str, *, delay_s: float) -> None:
        task = asyncio.get_running_loop().create_task(self._connected(address, delay_s))
        self._connecting[address] = task

    async def _connected(self, address: str, delay_s: float) -> None:
        """Tries until there is a connection."""
        for pause_s in _pauses(delay_s):
            await asyncio.sleep(pause_s)
            try:
                line = await ModelConnection.open(address, self._membership)
                break
            except OSError as error:
                log.warning("a model worker on another machine can't be reached: %s", error)
        self._lines[address] = line
        self._connecting.pop(address, None)
        self.changed.set()
        self.changed = asyncio.Event()
        line.lost.add_done_callback(lambda _: self._on_lost(address, line))

    def _on_lost(self, address: str, line: ModelConnection) -> None:
        if self._lines.get(address) is line:
            self._connect(address, delay_s=FIRST_DELAY_S)


def _pauses(first_s: float) -> Iterator[float]:
    """Seconds before each attempt: the first, and then growing ones."""
    yield first_s
    pause_s = max(first_s, FIRST_DELAY_S)
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, MAX_DELAY_S)
