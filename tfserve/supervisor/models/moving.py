"""Replaces the processes of a model on machines that are about to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from tfserve.db.models import Deployment as Row
from tfserve.supervisor.models.deployment import Deployment
from tfserve.supervisor.models.replicas import Replica

REASON = "its machine is about to stop"


class MovedSet(Protocol):
    """What moving needs of the replica set."""

    active: Deployment | None
    changing: asyncio.Lock

    @property
    def is_replacing(self) -> bool: ...

    def restore(self, deployment: Deployment) -> None: ...

    def retire(self, deployment: Deployment, replicas: Sequence[Replica]) -> None: ...

    async def announce(self) -> None: ...


async def move(replica_set: MovedSet, begun: set[int], *, has_others: bool) -> None:
    """One step: replacements are loaded elsewhere first. Each one that serves ends a process on such a machine.

    `begun` has the deployments whose replacement has begun. If it is not possible, the processes just end.
    """
    active = replica_set.active
    if active is None or not active.on_stopping_machines:
        return
    if has_others and active.id not in begun and len(active.staying) < len(active.living):
        begun.add(active.id)
        replica_set.restore(active)
    elif not (has_others and replica_set.is_replacing):
        await leave(replica_set)


async def leave(replica_set: MovedSet) -> None:
    """Ends the processes on such machines as soon as their predictions have ended."""
    async with replica_set.changing:
        active = replica_set.active
        if active is None or not (leaving := active.on_stopping_machines):
            return
        active.replicas = active.staying
        if active.full in leaving:  # it starts again when a request needs it
            active.full = None
        if not active.living and not active.is_asleep:
            active.state, active.reason = Row.State.LOADING, REASON
        replica_set.retire(active, leaving)
        await replica_set.announce()
    if not active.is_asleep:
        replica_set.restore(active)
