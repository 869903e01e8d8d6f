"""Counters and measurements: counted in the structs that are sent to the supervisor and back to web."""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:  # the supervisor counts too, without numpy
    from tfserve.ipc.predictions import ComputeResult

LATENCY_BUCKETS_S = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip


class Duration(msgspec.Struct):
    """How often something happened, and its total duration in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns


class Histogram(msgspec.Struct):
    """Counts of durations up to each bound of `LATENCY_BUCKETS_S`, and beyond the last."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
        self.sum_s += seconds


class BatchCount(msgspec.Struct):
    """The durations of all batches of one size. Each of `requests` requests took the whole time of its batch."""

    requests: int = 0
    rows: int = 0
    input_ns: int = 0
    compute_ns: int = 0
    output_ns: int = 0


class Latest(msgspec.Struct):
    """The last time that something happened, as Unix time; 0 when it never did."""

    at_s: float = 0.0


class ModelCounts(msgspec.Struct):
    """The counters of one model version: of one process since it began to serve the version, or a sum. Only grows."""

    replicas: int = 0
    #: batches that all replicas together compute at once at load
    computations: int = 0
    #: 1 while it sleeps
    sleeping: int = 0
    in_flight: int = 0
    #: by protocol, then by "ok", the kind of the error, or "client_gone"
    requests: dict[str, dict[str, int]] = {}
    #: from request to response, by protocol
    latency: dict[str, Histogram] = {}
    last: Latest = msgspec.field(default_factory=Latest)
    rows: int = 0
    #: computed batches: each request counts as its share of a batch
    executions: float = 0.0
    success: Duration = msgspec.field(default_factory=Duration)
    fail: Duration = msgspec.field(default_factory=Duration)
    queue_ns: int = 0
    #: by batch size in rows
    batches: dict[int, BatchCount] = {}

    def succeeded(self, protocol: str, rows: int, total_ns: int, result: ComputeResult) -> None:
        """A request with this number of rows has been computed. `total_ns` is from its arrival to its response."""
        batch_rows = result.batch_rows
        self.last.at_s = time.time()
        self.rows += rows
        self.executions += rows / batch_rows if batch_rows else 1.0
        self.success.count += 1
        self.success.ns += total_ns
        self.queue_ns += result.queue_ns
        batch = self.batches.get(batch_rows)
        if batch is None:
            batch = self.batches[batch_rows] = BatchCount()
        batch.requests += 1
        batch.rows += rows
        batch.input_ns += result.input_ns
        batch.compute_ns += result.compute_ns
        batch.output_ns += result.output_ns
        self._completed(protocol, "ok", total_ns)

    def failed(self, protocol: str, kind: str, total_ns: int) -> None:
        self.fail.add(total_ns)
        self._completed(protocol, kind, total_ns)

    def dropped(self, protocol: str, total_ns: int) -> None:
        """The client disconnected."""
        self._completed(protocol, "client_gone", total_ns)

    def _completed(self, protocol: str, outcome: str, total_ns: int) -> None:
        outcomes = self.requests.get(protocol)
        if outcomes is None:
            outcomes = self.requests[protocol] = {}
            self.latency[protocol] = Histogram()
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        self.latency[protocol].add(total_ns / 1e9)


class WebCounts(msgspec.Struct):
    """The counters of one web process: models by the ids of their deployments, error responses by API and status."""

    models: dict[int, ModelCounts] = {}
    http_errors: dict[str, dict[str, int]] = {}


class NamedCounts(msgspec.Struct):
    """The sum over all web processes."""

    model: str
    version: int
    counts: ModelCounts


class ModelSample(msgspec.Struct):
    """The counters of one model, all versions together, at one moment (Unix time). `latency` is of all protocols."""

    at: float
    requests: int = 0
    errors: int = 0
    rows: int = 0
    executions: float = 0.0
    latency: Histogram = msgspec.field(default_factory=Histogram)

    def add(self, counts: ModelCounts) -> None:
        """Adds the counters of one version."""
        for outcomes in counts.requests.values():
            self.requests += sum(outcomes.values())
            self.errors += sum(outcomes.values()) - outcomes.get("ok", 0)
        self.rows += counts.rows
        self.executions += counts.executions
        for each in counts.latency.values():
            self.latency = added(self.latency, each)


class WorkspaceCounts(msgspec.Struct):
    """`jobs` counts those that have ended since the server started, by kind and state."""

    name: str
    state: str
    waiting: int
    running: int
    jobs: dict[str, dict[str, int]]


class TrainingCounts(msgspec.Struct):
    """`runs` counts those that have ended since the server started, by state."""

    waiting: int
    running: int
    runs: dict[str, int]


class ModelJobCounts(msgspec.Struct):
    """Deferred predictions, or batches. `ended` counts those that have ended since the server started, by state."""

    kind: str
    waiting: int
    running: int
    ended: dict[str, int]


class ProcessUse(msgspec.Struct):
    """The resources of a running process; `workspace` is empty if it belongs to none. `node` is its machine."""

    role: str
    workspace: str
    pid: int
    memory_bytes: int
    cpu_s: float
    node: str


class Deaths(msgspec.Struct):
    """How many processes of a role have died since the server started."""

    role: str
    workspace: str
    count: int


def added(one: Any, other: Any) -> Any:
    """The sum of two counters of the same type: by field, by key and by position; the latest of two moments."""
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


def since(total: Any, before: Any) -> Any:
    """What was counted after `before`, an earlier state of the same counters."""
    match total:
        case Latest():
            return total
        case msgspec.Struct():
            names = total.__struct_fields__
            return type(total)(**{name: since(getattr(total, name), getattr(before, name)) for name in names})
        case dict():
            return {key: since(value, before[key]) if key in before else value for key, value in total.items()}
        case list() | tuple():
            return type(total)(map(since, total, before))
        case _:
            return total - before
