"""What is counted of a model version: by one process, since it began to serve the version."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from tfserve.ipc.metrics import BatchCount, Duration, Latest, ModelCounts

LATENCY_BUCKETS_S = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip


@dataclass
class Histogram:
    """Counts of durations up to each bound (seconds), and beyond the last."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
        self.sum_s += seconds


class Statistics:
    """Counters of one model version. Only grows."""

    def __init__(self) -> None:
        self.last_at_s = 0.0
        self.rows = 0
        #: batches that were computed: each request is the share of its batch that it was
        self.executions = 0.0
        self.success = Duration()
        self.fail = Duration()
        self.queue_ns = 0
        self.batches: dict[int, BatchCount] = {}
        #: seconds from question to answer, by the name of the protocol
        self.latency: dict[str, Histogram] = {}
        #: requests by (protocol, "ok" or the kind of the error)
        self.requests: Counter[tuple[str, str]] = Counter()

    def succeeded(self, protocol: str, *, total_ns: int, rows: int, batch_rows: int, times: tuple[int, ...]) -> None:
        """`times` are those of an answer: queue, input, compute and output, in nanoseconds."""
        queue_ns, input_ns, compute_ns, output_ns = times
        self.last_at_s = time.time()
        self.rows += rows
        self.executions += rows / batch_rows if batch_rows else 1.0
        self.success.count += 1
        self.success.ns += total_ns
        self.queue_ns += queue_ns
        batch = self.batches.get(batch_rows)
        if batch is None:
            batch = self.batches[batch_rows] = BatchCount()
        batch.requests += 1
        batch.rows += rows
        batch.input_ns += input_ns
        batch.compute_ns += compute_ns
        batch.output_ns += output_ns
        self._requested(protocol, "ok", total_ns)

    def failed(self, protocol: str, kind: str, total_ns: int) -> None:
        self.fail.add(total_ns)
        self._requested(protocol, kind, total_ns)

    def dropped(self, protocol: str, total_ns: int) -> None:
        """Whoever asked went away."""
        self._requested(protocol, "client_gone", total_ns)

    def snapshot(self, *, in_flight: int) -> ModelCounts:
        """The counters as other processes get them."""
        requests: dict[str, dict[str, int]] = {}
        for (protocol, outcome), count in self.requests.items():
            requests.setdefault(protocol, {})[outcome] = count
        return ModelCounts(
            in_flight=in_flight,
            requests=requests,
            latency={protocol: (each.counts, each.sum_s) for protocol, each in self.latency.items()},
            last=Latest(self.last_at_s),
            rows=self.rows,
            executions=self.executions,
            success=self.success,
            fail=self.fail,
            queue_ns=self.queue_ns,
            batches=self.batches,
        )

    def _requested(self, protocol: str, outcome: str, total_ns: int) -> None:
        self.requests[protocol, outcome] += 1
        histogram = self.latency.get(protocol)
        if histogram is None:
            histogram = self.latency[protocol] = Histogram()
        histogram.add(total_ns / 1e9)
