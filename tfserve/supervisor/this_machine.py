"""This machine as the only node: what it has, and whether a demand can be met here."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfserve import __version__, available_memory, sizes
from tfserve.errors import Invalid
from tfserve.ipc.messages.cluster import Demand, NodeState
from tfserve.sizes import show

HEAD = "head"
"""The name of the node that the server itself runs on."""
_DEVICES = Path("/dev")
_GPU = re.compile(r"nvidia\d+")


class CannotBeMet(Invalid):
    """resources can't be met: {problem}. Request less, or add a node that has more (`tfserve node`)."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem=problem, field="resources")


class ThisMachine:
    """Without a cluster, everything runs here."""

    def __init__(self) -> None:
        self._started_at = time.time()
        self._resources = {
            "cpu": float(processors()), "gpu": float(gpus()), "memory": float(available_memory.total())
        }  # fmt: skip

    def states(self) -> list[NodeState]:
        """The only node."""
        free = self._resources | {"memory": float(available_memory.of_process())}
        return [
            NodeState(
                name=HEAD, address="127.0.0.1", state="ready", version=__version__, resources=self._resources,
                free=free, since=self._started_at,
            )
        ]  # fmt: skip

    def check(self, demand: Demand, count: int = 1) -> None:
        """Raises `CannotBeMet` if `count` processes with this demand can't run at the same time."""
        if demand.resources:
            (node,) = self.states()
            if problems := unmet(demand.resources, count, node.name, node.resources):
                raise CannotBeMet("; ".join(problems))


def unmet(needed: Mapping[str, float | str], count: int, name: str, has: Mapping[str, float]) -> list[str]:
    """What a node lacks for `count` processes, as sentences without their full stop."""
    problems = []
    if (node := needed.get("node", name)) != name:
        problems.append(f"node {node!r} was requested, and the only node is {name!r}, this machine")
    for resource in ("cpu", "gpu", "memory"):
        if resource in needed:
            each, there = amount(resource, needed[resource]), has.get(resource, 0.0)
            if each * count > there:
                problems.append(
                    f"{_shown(resource, each)}{f' for each of {count} processes' if count > 1 else ''} requested, and"
                    f" node {name!r} has {_shown(resource, there)}"
                )
    return problems


def amount(resource: str, needed: float | str) -> float:
    """An amount as a number; that of memory in bytes."""
    return float(sizes.parse(needed, resource)) if isinstance(needed, str) else needed


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


def gpus(devices: Path = _DEVICES) -> int:
    """The NVIDIA GPUs that processes of this machine may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = sum(_GPU.fullmatch(each.name) is not None for each in devices.iterdir())
    return found if visible is None else min(found, len([each for each in visible.split(",") if each.strip()]))


def _shown(resource: str, number: float) -> str:
    if resource == "memory":
        return f"{show(number)} of memory"
    noun = {"cpu": "processor", "gpu": "GPU"}[resource]
    return f"{number:g} {noun}{'' if number == 1 else 's'}"


def covers(has: Mapping[str, float | str], needed: Mapping[str, float | str]) -> Sequence[str]:
    """What a process with the resources `has` lacks for a job that needs others, as sentences without a full stop."""
    missing = []
    for resource, value in needed.items():
        if resource == "node":
            if has.get("node") != value:
                missing.append(f"node {value!r} is not that of the workspace ({has.get('node') or 'any'})")
        elif amount(resource, has.get(resource, 0.0)) < amount(resource, value):
            own = has.get(resource, 0.0)
            missing.append(
                f"{_shown(resource, amount(resource, value))} requested, and the workspace has"
                f" {_shown(resource, amount(resource, own))}"
            )
    return missing
