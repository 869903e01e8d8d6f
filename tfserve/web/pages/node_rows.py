"""What the page of nodes shows of each machine, and that of a model of its processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.http import QueryDict

from tfserve.ipc.messages import NodeStatus, RunningWorker
from tfserve.web.pages.listing import Shown, escaped_size, fitting
from tfserve.web.pages.templatetags.units import size

ROLES = {"script": "scripts of", "model": "model", "train": "training", "host": "workspaces of type 1"}
MAX_RUNS, MAX_PIDS = 40, 8
NODES_BYTES, GONE_BYTES = 30_000, 10_000
"""What the lists may take."""


class Runs(NamedTuple):
    """Workers of one role for one workspace or training."""

    what: str
    name: str
    number: int
    pids: str
    page: str
    """Name of the URL of its page; empty for a worker that has none."""


@dataclass(frozen=True)
class NodeRow:
    """A machine in the list."""

    node: NodeStatus

    @property
    def cpus(self) -> str:
        return _of(self.node, "cpu")

    @property
    def gpus(self) -> str:
        return _of(self.node, "gpu")

    @property
    def memory(self) -> str:
        return _of(self.node, "memory")

    @property
    def others(self) -> list[tuple[str, str]]:
        """Further resources, by Ray's names."""
        names = [each for each in self.node.resources if each not in ("cpu", "gpu", "memory")]
        return [(each, _of(self.node, each)) for each in names if not each.startswith("accelerator")]

    @property
    def runs(self) -> list[Runs]:
        groups: dict[tuple[str, str], list[RunningWorker]] = {}
        for each in self.node.runs:
            groups.setdefault((each.role, each.name), []).append(each)
        return [_runs(role, name, workers) for (role, name), workers in groups.items()][:MAX_RUNS]

    @property
    def more(self) -> int:
        """Workers that the list leaves out."""
        return len(self.node.runs) - sum(each.number for each in self.runs)


def present(query: QueryDict, nodes: Sequence[NodeStatus]) -> Shown:
    """The page `?nodes=` of the machines that are not gone."""
    rows = [NodeRow(each) for each in nodes if each.state != "gone"]
    return fitting(query, "nodes", rows, NODES_BYTES, _row_size)


def gone(query: QueryDict, nodes: Sequence[NodeStatus]) -> Shown:
    """The page `?gone=` of those that are."""
    rows = [each for each in nodes if each.state == "gone"]
    return fitting(
        query, "gone", rows, GONE_BYTES, lambda each: 450 + escaped_size(each.name, each.address, each.reason)
    )


def nodes_of(deployment: Mapping[str, Any]) -> str:
    """Where the processes of a model run, if that is not only this machine: `big (2), head`."""
    counts = Counter(each["node"] for each in deployment["processes"])
    if set(counts) <= {"head"}:
        return ""
    return ", ".join(f"{node} ({count})" if count > 1 else node for node, count in sorted(counts.items()))


def _runs(role: str, name: str, workers: Sequence[RunningWorker]) -> Runs:
    page = {"script": "workspace", "model": "model", "train": "training"}.get(role, "")
    pids = ", ".join(str(each.pid) for each in workers[:MAX_PIDS]) + (" …" if len(workers) > MAX_PIDS else "")
    return Runs(ROLES.get(role, role), name, len(workers), pids, page)


def _row_size(row: NodeRow) -> int:
    runs = sum(110 + escaped_size(each.what, each.name, each.name, each.pids) for each in row.runs)
    others = sum(40 + escaped_size(*each) for each in row.others)
    node = row.node
    return 1100 + runs + others + escaped_size(node.name, node.name, node.address, node.http, node.http, node.reason)


def _of(node: NodeStatus, resource: str) -> str:
    """What is free of how much."""
    if resource not in node.resources:
        return ""
    total, free = node.resources[resource], node.free.get(resource, 0.0)
    if not total:
        return ""
    return f"{size(int(free))} of {size(int(total))}" if resource == "memory" else f"{free:g} of {total:g}"
