"""What the web processes have counted, added up so that a sum never goes back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Container

from tfserve.ipc.connections import Connection, ConnectionLost
from tfserve.ipc.messages import ReadStatistics, Statistics
from tfserve.ipc.metrics import ModelCounts, WebCounts, added

log = logging.getLogger(__name__)

ASK_S = 2.0
"""A web process that does not answer for so long is told with what it has said last."""


class Counts:
    """Asks all web processes; what a dead one has told last stays in the sum."""

    def __init__(self) -> None:
        self._last: dict[Connection, WebCounts] = {}
        self._former = WebCounts()

    async def read(self, lines: list[Connection], deployments: Container[int]) -> WebCounts:
        """The sum over all processes, for those deployments only: others have gone."""
        await asyncio.gather(*(self._ask(line) for line in lines))
        for line in self._last.keys() - {*lines}:
            self._bury(self._last.pop(line))
        total = self._former = _only(self._former, deployments)
        for counts in self._last.values():
            total = added(total, _only(counts, deployments))
        return total

    async def _ask(self, line: Connection) -> None:
        with contextlib.suppress(ConnectionLost):
            try:
                async with asyncio.timeout(ASK_S):
                    answer = await line.ask(ReadStatistics())
            except TimeoutError:
                log.warning("a web process has not told its counts within %g s", ASK_S)
                return
            if isinstance(answer, Statistics):
                self._last[line] = answer.counts

    def _bury(self, counts: WebCounts) -> None:
        for model in counts.models.values():
            model.in_flight = 0
        self._former = added(self._former, counts)


def _only(counts: WebCounts, deployments: Container[int]) -> WebCounts:
    models: dict[int, ModelCounts] = {id_: each for id_, each in counts.models.items() if id_ in deployments}
    return WebCounts(models, counts.http_errors)
