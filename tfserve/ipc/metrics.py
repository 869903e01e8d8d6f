"""What is counted and measured, as it travels to the web process that tells it."""

from __future__ import annotations

from typing import Any

import msgspec


class Duration(msgspec.Struct):
    """How often something happened, and how long it took in all, in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns


class BatchCount(msgspec.Struct):
    """What the batches of one size took. Each of `requests` requests saw the whole time of its batch."""

    requests: int = 0
    rows: int = 0
    input_ns: int = 0
    compute_ns: int = 0
    output_ns: int = 0


class Latest(msgspec.Struct):
    """The last time that something happened, as Unix time; 0 when it never did."""

    at_s: float = 0.0


class ModelCounts(msgspec.Struct):
    """What was counted of one model version; see `serving.statistics` for the words.

    `latency` has, by protocol, the counts of the buckets and the sum in seconds; `batches` what was computed in
    batches of each size.
    """

    replicas: int = 0
    in_flight: int = 0
    requests: dict[str, dict[str, int]] = {}
    latency: dict[str, tuple[list[int], float]] = {}
    last: Latest = msgspec.field(default_factory=Latest)
    rows: int = 0
    executions: float = 0.0
    success: Duration = msgspec.field(default_factory=Duration)
    fail: Duration = msgspec.field(default_factory=Duration)
    queue_ns: int = 0
    batches: dict[int, BatchCount] = {}


class WebCounts(msgspec.Struct):
    """What one web process has counted: models by the ids of their deployments, error answers by API and status."""

    models: dict[int, ModelCounts] = {}
    http_errors: dict[str, dict[str, int]] = {}


class NamedCounts(msgspec.Struct):
    """The counts of all web processes together."""

    model: str
    version: int
    counts: ModelCounts


class WorkspaceCounts(msgspec.Struct):
    """`jobs` counts those that have ended since the server began, by kind and state."""

    name: str
    state: str
    waiting: int
    running: int
    jobs: dict[str, dict[str, int]]


class TrainingCounts(msgspec.Struct):
    """`runs` counts those that have ended since the server began, by state."""

    waiting: int
    running: int
    runs: dict[str, int]


class ProcessUse(msgspec.Struct):
    """What a living process uses; `workspace` is empty when it belongs to none."""

    role: str
    workspace: str
    pid: int
    memory_bytes: int
    cpu_s: float


class Deaths(msgspec.Struct):
    """How many processes of a role have ended unasked since the server began."""

    role: str
    workspace: str
    count: int


def added(one: Any, other: Any) -> Any:
    """The sum of two counts of the same kind: field by field, key by key, place by place; of moments the last."""
    match one:
        case Latest():
            return max(one, other, key=lambda each: each.at_s)
        case msgspec.Struct():
            names = one.__struct_fields__
            return type(one)(**{name: added(getattr(one, name), getattr(other, name)) for name in names})
        case dict():
            return one | {key: added(one[key], value) if key in one else value for key, value in other.items()}
        case list() | tuple():
            return type(one)(map(added, one, other))
        case _:
            return one + other
