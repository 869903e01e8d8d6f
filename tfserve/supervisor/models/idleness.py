"""How long processes of models have been idle: each knows its last prediction, so a timer is set for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tfserve.errors import TFserveError
from tfserve.ipc.messages import IdleSince
from tfserve.supervisor.models.replicas import Replica
from tfserve.supervisor.processes.worker import WorkerDied

BUSY_S = 2.0
"""A process that does not answer within this time is computing."""


async def until_idle(find: Callable[[], Sequence[Replica]], limit_s: float) -> bool:
    """Returns when the processes have computed nothing for `limit_s` seconds; false when none of them is left."""
    idle = 0.0
    while idle < limit_s and (replicas := find()):
        ends = [replica.worker.child.ended for replica in replicas]
        await asyncio.wait(ends, timeout=limit_s - idle, return_when=asyncio.FIRST_COMPLETED)
        idle = await idle_s(find())
    return idle >= limit_s


async def idle_s(replicas: Sequence[Replica]) -> float:
    """Seconds since the last prediction of any of these processes; 0 while one computes, and without any."""
    return min(await asyncio.gather(*map(_idle_s, replicas)), default=0.0)


async def _idle_s(replica: Replica) -> float:
    try:
        async with asyncio.timeout(BUSY_S):
            return await replica.worker.ask(IdleSince())
    except (TimeoutError, TFserveError, WorkerDied):
        return 0.0
