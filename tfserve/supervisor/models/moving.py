"""Replaces the processes of a model on machines that are about to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfserve.db.models import Deployment as Row

if TYPE_CHECKING:
    from tfserve.supervisor.models.replica_set import ReplicaSet

REASON = "its machine is about to stop"


async def move(replica_set: ReplicaSet, begun: set[int], *, has_others: bool) -> None:
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


async def leave(replica_set: ReplicaSet) -> None:
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
