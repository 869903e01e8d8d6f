"""Requests, latency and batch sizes of a model over the last minutes, from the counters that `/metrics` shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from tfserve.ipc.metrics import LATENCY_BUCKETS_S, ModelSample
from tfserve.web.pages.charts import spark


@dataclass(frozen=True)
class Interval:
    """What was counted between two samples. `p50_s` is None without a request."""

    seconds: float
    requests: int
    errors: int
    p50_s: float | None
    batch: float | None

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


@dataclass(frozen=True)
class Traffic:
    """`total` counts all requests since the version was deployed."""

    intervals: list[Interval]
    total: int
    errors: int

    @property
    def minutes(self) -> float:
        return sum(each.seconds for each in self.intervals) / 60

    @property
    def rate(self) -> float:
        """Requests per second in the last interval."""
        return self.intervals[-1].rate if self.intervals else 0.0

    @property
    def p50_s(self) -> float | None:
        """The newest median latency."""
        return next((each.p50_s for each in reversed(self.intervals) if each.p50_s is not None), None)

    @property
    def batch(self) -> float | None:
        """The newest mean batch size, in rows."""
        return next((each.batch for each in reversed(self.intervals) if each.batch is not None), None)

    @property
    def rates(self) -> str:
        return spark([each.rate for each in self.intervals], least=1.0)

    @property
    def latencies(self) -> str:
        return spark(_carried([each.p50_s for each in self.intervals]), least=1e-4)

    @property
    def batches(self) -> str:
        return spark(_carried([each.batch for each in self.intervals]), least=1.0)


def _carried(values: Sequence[float | None]) -> list[float]:
    """The known values, each until the next one: what is measured of requests has no value without one."""
    known: list[float] = []
    for value in values:
        if value is not None:
            known.append(value)
        elif known:
            known.append(known[-1])
    return known


def traffic(samples: Sequence[ModelSample]) -> Traffic:
    """The traffic between samples, which are ordered by time."""
    last = samples[-1] if samples else ModelSample(0.0)
    return Traffic(list(_intervals(samples)), last.requests, last.errors)


def _intervals(samples: Sequence[ModelSample]) -> Iterator[Interval]:
    for before, after in pairwise(samples):
        if after.requests < before.requests or after.at <= before.at:
            continue  # a version has gone, with its counters
        counts = [b - a for a, b in zip(before.latency.counts, after.latency.counts, strict=True)]
        executions = after.executions - before.executions
        yield Interval(
            after.at - before.at,
            after.requests - before.requests,
            after.errors - before.errors,
            median_s(counts),
            (after.rows - before.rows) / executions if executions > 0 else None,
        )


def median_s(counts: Sequence[int]) -> float | None:
    """The median of durations that are counted in the buckets of `LATENCY_BUCKETS_S`, interpolated in its bucket."""
    total = sum(counts)
    if total <= 0:
        return None
    bounds = (0.0, *LATENCY_BUCKETS_S, LATENCY_BUCKETS_S[-1])
    for index, reached in enumerate(accumulate(counts)):
        if reached >= total / 2:
            inside = (total / 2 - (reached - counts[index])) / counts[index]
            return bounds[index] + (bounds[index + 1] - bounds[index]) * inside
    return None
