"""Where the processes of a workspace, a training or a model run, and how many a model has."""

from __future__ import annotations

from math import ceil
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tfserve import sizes
from tfserve.errors import Invalid

MAX_REPLICAS = 64

NeededResources = dict[str, float | str]
"""What each process needs: `cpu` and `gpu` are numbers, `memory` is a size with its unit, `node` a name."""

Replicas = Annotated[int, Meta(description="number of processes that serve the model", ge=1, le=MAX_REPLICAS)]
Placement = Annotated[
    Literal["spread", "pack"],
    Meta(description="spread: replicas on different nodes; pack: on as few nodes as possible"),
]


class Resources(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a process needs of the machine that it runs on."""

    cpu: Annotated[float, Meta(description="processors, also a part of one", ge=0, le=4096)] = 0.0
    gpu: Annotated[float, Meta(description="GPUs, or a part of one below 1", ge=0, le=64)] = 0.0
    memory: Annotated[str, Meta(description="memory, such as 4GiB")] = ""
    node: Annotated[str, Meta(description="name of the node to run on", max_length=100)] = ""

    def needed(self, field: str = "resources") -> NeededResources:
        """Those that were given. Raises `Invalid`, in which `field` is the name of the request's field."""
        if self.gpu > 1 and not self.gpu.is_integer():
            raise Invalid(
                f"{field}.gpu must be a whole number, or a part of one GPU below 1, got {self.gpu:g}", field=field
            )
        sizes.parse(self.memory, f"{field}.memory")
        given: NeededResources = {"cpu": self.cpu, "gpu": self.gpu, "memory": self.memory.strip(), "node": self.node}
        return {name: value for name, value in given.items() if value}


class Autoscale(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How many replicas a model has, by its load."""

    max: Annotated[int, Meta(description="most replicas", ge=1, le=MAX_REPLICAS)]
    min: Annotated[
        int, Meta(description="fewest replicas; idle_after releases the last ones", ge=1, le=MAX_REPLICAS)
    ] = 1
    target_queue: Annotated[
        float, Meta(description="predictions in flight per replica; more of them start another one", ge=0.1, le=10_000)
    ] = 4.0

    def check(self) -> None:
        """Raises `Invalid`."""
        if self.min > self.max:
            raise Invalid(
                f"autoscale.min must be at most autoscale.max ({self.max}), got {self.min}", field="autoscale"
            )

    def within(self, replicas: int) -> int:
        """The number of replicas nearest to this one that the limits allow."""
        return min(max(replicas, self.min), self.max)

    def replicas_for(self, in_flight: float) -> int:
        """How many replicas this number of predictions in flight needs, within the limits."""
        return self.within(ceil(in_flight / self.target_queue - 1e-9))


def first_replicas(replicas: int, autoscale: Autoscale | None) -> int:
    """How many replicas to begin with. Raises `Invalid` if `replicas` is outside of the limits, and not the default."""
    if autoscale is None:
        return replicas
    autoscale.check()
    if replicas not in (1, autoscale.within(replicas)):
        raise Invalid(
            f"replicas must be between autoscale.min and autoscale.max ({autoscale.min} to {autoscale.max}), got"
            f" {replicas}. Without replicas, the model begins with {autoscale.min}.",
            field="replicas",
        )
    return autoscale.within(replicas)


def switched(autoscale: Autoscale | bool) -> Autoscale | None:
    """What the field `autoscale` of a change means: None turns it off. Raises `Invalid`."""
    if autoscale is True:
        raise Invalid(
            'autoscale must be an object such as {"min": 1, "max": 4, "target_queue": 4}, or false to turn it off,'
            " got true",
            field="autoscale",
        )
    if autoscale is False:
        return None
    autoscale.check()
    return autoscale
