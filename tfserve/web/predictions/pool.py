"""The replicas of one model version, and which of them is asked next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from tfserve.web.predictions.model_connections import ModelConnection

log = logging.getLogger(__name__)


class Pool:
    """One line to each replica."""

    def __init__(self) -> None:
        self._lines: dict[str, ModelConnection] = {}
        #: what takes nothing more, until its process closes the line
        self._retired: dict[str, ModelConnection] = {}

    @property
    def alive(self) -> bool:
        return any(line.alive for line in self._lines.values())

    def least_busy(self) -> ModelConnection | None:
        """The line with the fewest predictions in flight; None when no replica is there."""
        best: ModelConnection | None = None
        for line in self._lines.values():
            if line.alive and (best is None or line.load < best.load):
                best = line
        return best

    async def open(self, addresses: Sequence[str]) -> None:
        """Connects to new replicas."""
        new = [address for address in addresses if not self._is_open(address)]
        await asyncio.gather(*(self._open(address) for address in new))

    def keep(self, addresses: Sequence[str]) -> None:
        """Replicas that are not named get nothing more, and answer what they have."""
        for address in self._lines.keys() - set(addresses):
            self._retire(address)

    async def drained(self, addresses: Sequence[str]) -> None:
        """Returns when nothing is in flight to these replicas."""
        lines = [self._lines.get(address) or self._retired.get(address) for address in addresses]
        await asyncio.gather(*(line.drained() for line in lines if line is not None))

    def close(self) -> None:
        for line in [*self._lines.values(), *self._retired.values()]:
            line.close()
        self._lines.clear()

    def _retire(self, address: str) -> None:
        line = self._retired[address] = self._lines.pop(address)
        line.lost.add_done_callback(lambda _: self._retired.pop(address, None))

    def _is_open(self, address: str) -> bool:
        line = self._lines.get(address)
        return line is not None and line.alive

    async def _open(self, address: str) -> None:
        try:
            self._lines[address] = await ModelConnection.open(address)
        except OSError as error:  # it has died meanwhile, which the supervisor announces next
            log.warning("a model worker can't be reached: %s", error)
