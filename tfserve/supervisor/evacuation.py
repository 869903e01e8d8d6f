"""Moves away what runs on a machine that is about to stop, as far as the time allows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from tfserve.supervisor.events import Signal
from tfserve.supervisor.jobs.training_queue import TrainingQueue
from tfserve.supervisor.models import moving
from tfserve.supervisor.workspaces import Workspaces

LAST_S = 5.0
"""How long predictions may take to end when the time is over."""


class Evacuation:
    """Models are loaded elsewhere first. Jobs and trainings may end, and a training continues elsewhere otherwise.

    Workers know whether their machine is about to stop (`node_stops`), so nothing new begins there.
    """

    def __init__(self, workspaces: Workspaces, trainings: TrainingQueue, changed: Signal) -> None:
        self._workspaces = workspaces
        self._trainings = trainings
        self._changed = changed

    async def run(self, drain_s: float, is_used: Callable[[], bool], has_others: Callable[[], bool]) -> None:
        """Returns when the machine is not used any more, or when the time is over.

        `is_used`: whether models, trainings or conversions run there. `has_others`: whether another machine takes
        workers now.
        """
        loop = asyncio.get_running_loop()
        until, begun = loop.time() + drain_s, set[int]()
        while (left_s := until - loop.time()) > 0:
            for workspace in self._workspaces:
                await moving.move(workspace.model.replica_set, begun, has_others=has_others())
            if not is_used() and not any(each.scripts.runs_where_it_stops for each in self._workspaces):
                return
            await self._changed.wait(left_s)
        self._trainings.move()
        await asyncio.gather(*(moving.leave(each.model.replica_set) for each in self._workspaces))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                while is_used():
                    await self._changed.wait(LAST_S)
