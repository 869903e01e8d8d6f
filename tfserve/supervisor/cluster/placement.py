"""Decides on which machine of the cluster a worker runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tfserve import sizes
from tfserve.errors import Invalid
from tfserve.ipc.messages import PACK, Demand

NODE = "node"
MEMORY = "memory"
RAY_NAMES = {"cpu": "CPU", "gpu": "GPU"}


@dataclass(frozen=True)
class CandidateNode:
    """A machine that takes workers. Amounts are by the names of `Demand`, memory in bytes."""

    name: str
    total: Mapping[str, float] = field(default_factory=dict)
    free: Mapping[str, float] = field(default_factory=dict)
    workers: int = 0


@dataclass(frozen=True)
class PlacementChoice:
    """The name of a machine, or else the reason, and whether a machine could `ever`, with nothing else on it."""

    node: str | None
    problem: str = ""
    ever: bool = True


def choose(demand: Demand, candidates: Sequence[CandidateNode]) -> PlacementChoice:
    """The machine for a demand. Raises `Invalid` for amounts that can't be read."""
    needs, named = amounts(demand)
    allowed = [each for each in candidates if named in (None, each.name)]
    if not allowed and named is not None:
        known = ", ".join(each.name for each in candidates) or "none"
        return PlacementChoice(None, f"node {named} is not connected (connected nodes: {known}).", ever=False)
    fitting = [each for each in allowed if _fits(needs, each.free)]
    if not fitting:
        ever = any(_fits(needs, each.total) for each in allowed)
        return PlacementChoice(None, _problem(needs, allowed, ever=ever), ever=ever)
    return PlacementChoice(min(fitting, key=lambda each: _order(demand, each)).name)


def shortage(demand: Demand, count: int, candidates: Sequence[CandidateNode]) -> str:
    """Why these machines could never run `count` processes at a time, even with nothing else on them; empty if so."""
    needs, named = amounts(demand)
    allowed = [each for each in candidates if named in (None, each.name)]
    if not allowed:
        return choose(demand, candidates).problem
    if sum(_room(needs, each.total, count) for each in allowed) >= count:
        return ""
    each = f" for each of {count} processes" if count > 1 else ""
    has = "; ".join(f"{each.name}: {_shown(needs, each.total)}" for each in allowed)
    return f"{_shown(needs, needs)}{each} requested, and the nodes have in all: {has}"


def amounts(demand: Demand) -> tuple[dict[str, float], str | None]:
    """What a process needs, and the name of its node if there is only one that will do. Raises `Invalid`."""
    needs: dict[str, float] = {}
    named: str | None = None
    for name, amount in demand.resources.items():
        if name == NODE:
            named = str(amount)
        elif name == MEMORY and isinstance(amount, str):
            needs[name] = float(sizes.parse(amount, "resources.memory"))
        elif isinstance(amount, str) or amount < 0:
            raise Invalid(f"resources.{name} must be a number of 0 or more, got {amount!r}")
        elif amount:
            needs[name] = float(amount)
    return needs, named


def for_ray(needs: Mapping[str, float]) -> dict[str, float]:
    """The same amounts by Ray's names."""
    return {RAY_NAMES.get(name, name): amount for name, amount in needs.items()}


def from_ray(resources: Mapping[str, float]) -> dict[str, float]:
    """Ray's amounts by the names of `Demand`, without those that Ray adds for itself."""
    ours = {theirs: name for name, theirs in RAY_NAMES.items()}
    shown = {ours.get(name, name): amount for name, amount in resources.items()}
    return {name: amount for name, amount in shown.items() if ":" not in name and name != "object_store_memory"}


def _room(needs: Mapping[str, float], total: Mapping[str, float], count: int) -> int:
    """How many of `count` processes fit."""
    return int(min([count, *(total.get(name, 0.0) // amount for name, amount in needs.items())]))


def _fits(needs: Mapping[str, float], amounts: Mapping[str, float]) -> bool:
    return all(amounts.get(name, 0.0) >= amount for name, amount in needs.items())


def _order(demand: Demand, candidate: CandidateNode) -> tuple[float, ...]:
    """The smallest is chosen: with `spread` the emptiest machine, with `pack` the fullest."""
    siblings = demand.siblings.get(candidate.name, 0)
    sign = -1 if demand.placement == PACK else 1
    return sign * siblings, sign * candidate.workers, -sign * candidate.free.get("cpu", 0.0)


def _problem(needs: Mapping[str, float], allowed: Sequence[CandidateNode], *, ever: bool) -> str:
    needed = _shown(needs, needs) or "a process"
    if not allowed:
        return "no node is ready."
    has = "; ".join(f"{each.name}: {_shown(needs, each.free if ever else each.total)}" for each in allowed)
    return f"it needs {needed}, and the nodes have {'free' if ever else 'in all'}: {has}."


def _shown(names: Mapping[str, float], amounts: Mapping[str, float]) -> str:
    def one(name: str) -> str:
        amount = amounts.get(name, 0.0)
        return f"{name} {sizes.show(int(amount)) if name == MEMORY else f'{amount:g}'}"

    return ", ".join(map(one, names))
