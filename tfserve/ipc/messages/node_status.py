"""The machines that run workers, for pages, metrics and clients."""

from __future__ import annotations

import msgspec

from tfserve.ipc.messages.base import Request


class RunningWorker(msgspec.Struct, frozen=True):
    """A worker with a role. `name` is its workspace, or the id of the training task; empty for the host."""

    role: str
    name: str
    pid: int


class NodeStatus(msgspec.Struct, frozen=True):
    """A `NodeState` of the cluster, and what runs there. Without a cluster, this machine is the only node."""

    name: str
    address: str
    state: str
    reason: str
    version: str
    http: str
    resources: dict[str, float]
    free: dict[str, float]
    workers: int
    since: float
    runs: list[RunningWorker] = []


class GetNodes(Request[list[NodeStatus]]):
    """All machines: the head first, those that are gone last."""
