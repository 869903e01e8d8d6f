"""Adds up the counters of all web processes, so that a sum never decreases."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Container, Iterable

from tfserve.errors import TFserveError
from tfserve.ipc.connections import Connection, ConnectionLost
from tfserve.ipc.messages import ReadCounters, ReadInFlight
from tfserve.ipc.metrics import ModelCounts, WebCounts, added

log = logging.getLogger(__name__)

READ_S = 2.0
"""Maximum time to wait for the counters of a web process; after that its last known ones are used."""


class Counts:
    """The last known counters of a dead web process stay in the sum."""

    def __init__(self) -> None:
        self._last: dict[Connection, WebCounts] = {}
        self._former = WebCounts()

    async def read(self, lines: list[Connection], deployments: Container[int]) -> WebCounts:
        """The sum over all processes, for those deployments only: others have gone."""
        await asyncio.gather(*(self._read(line) for line in lines))
        for line in self._last.keys() - {*lines}:
            self._bury(self._last.pop(line))
        total = self._former = _only(self._former, deployments)
        for counts in self._last.values():
            total = added(total, _only(counts, deployments))
        return total

    async def _read(self, line: Connection) -> None:
        with contextlib.suppress(ConnectionLost):
            try:
                async with asyncio.timeout(READ_S):
                    self._last[line] = await line.ask(ReadCounters())
            except TimeoutError:
                log.warning("a web process did not report its counters within %g s", READ_S)

    def _bury(self, counts: WebCounts) -> None:
        for model in counts.models.values():
            model.in_flight = 0
        self._former = added(self._former, counts)


async def in_flight(lines: Iterable[Connection], request: ReadInFlight) -> dict[int, int]:
    """How many predictions of each deployment all processes wait for. One that does not respond counts as idle."""
    found = await asyncio.gather(*(_in_flight(line, request) for line in lines))
    return {id_: sum(each.get(id_, 0) for each in found) for id_ in request.deployments}


async def _in_flight(line: Connection, request: ReadInFlight) -> dict[int, int]:
    with contextlib.suppress(ConnectionLost, TimeoutError, TFserveError):
        async with asyncio.timeout(READ_S):
            return await line.ask(request)
    return {}


def _only(counts: WebCounts, deployments: Container[int]) -> WebCounts:
    models: dict[int, ModelCounts] = {id_: each for id_, each in counts.models.items() if id_ in deployments}
    return WebCounts(models, counts.http_errors)
