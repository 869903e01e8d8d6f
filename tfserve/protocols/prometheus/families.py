"""The table of metrics: what each is called, what it means, and where its numbers come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.utils import floatToGoString

from tfserve.ipc.messages import FINISHED_STATES, Metrics
from tfserve.ipc.metrics import NamedCounts, ProcessUse, WorkspaceCounts
from tfserve.serving.statistics import LATENCY_BUCKETS_S

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
WORKSPACE_STATES = ("idle", "starting", "ready", "restarting", "failed")


def families(metrics: Metrics) -> Iterator[Metric]:
    """All metrics; each begins with `tfserve_`."""
    yield _gauge("build_info", "The version of the server; always 1.", ["version"], [([metrics.version], 1)])
    yield _gauge("start_time_seconds", "When the server began, as Unix time.", [], [([], metrics.started_at)])
    yield from _models(metrics.models)
    yield _counter(
        "http_errors",
        "HTTP requests answered with an error, by API (v1, v2, other) and status.",
        ["api", "status"],
        [([api, status], n) for api, statuses in metrics.http_errors.items() for status, n in statuses.items()],
    )
    yield from _workspaces(metrics.workspaces)
    trainings = metrics.trainings
    yield _gauge("training_runs_waiting", "Training runs that wait.", [], [([], trainings.waiting)])
    yield _gauge("training_runs_running", "Training runs under way.", [], [([], trainings.running)])
    yield _counter(
        "training_runs",
        "Training runs that have ended since the server began, by how.",
        ["outcome"],
        [([state], trainings.runs.get(state, 0)) for state in FINISHED_STATES],
    )
    yield from _processes(metrics.processes)
    yield _counter(
        "process_deaths",
        "Processes that ended without being asked to since the server began; each was started again if needed.",
        ["role", "workspace"],
        [([each.role, each.workspace], each.count) for each in metrics.deaths],
    )


def _models(models: list[NamedCounts]) -> Iterator[Metric]:
    labels = ["model", "version"]
    named = [([each.model, str(each.version)], each.counts) for each in models]
    yield _counter(
        "model_requests",
        "Predictions that were answered, by protocol and outcome (ok, a kind of error, or client_gone).",
        [*labels, "protocol", "outcome"],
        [
            ([*name, protocol, outcome], count)
            for name, counts in named
            for protocol, outcomes in counts.requests.items()
            for outcome, count in outcomes.items()
        ],
    )
    latency = HistogramMetricFamily(
        "tfserve_model_request_duration_seconds",
        "Time from a prediction's question to its answer, its wait included.",
        labels=[*labels, "protocol"],
    )
    queue = SummaryMetricFamily(
        "tfserve_model_queue_duration_seconds",
        "Time that answered predictions have waited for the model to become free.",
        labels=labels,
    )
    batches = HistogramMetricFamily(
        "tfserve_model_batch_rows", "Rows that were computed together, a count for each batch.", labels=labels
    )
    for name, counts in named:
        for protocol, (buckets, sum_s) in counts.latency.items():
            latency.add_metric([*name, protocol], _buckets(LATENCY_BUCKETS_S, buckets), sum_s)
        queue.add_metric(name, counts.success.count, counts.queue_ns / 1e9)
        batch_rows = {size: batch.rows for size, batch in counts.batches.items()}
        batches.add_metric(name, _batch_buckets(batch_rows), sum(batch_rows.values()))
    yield latency
    yield queue
    yield batches
    yield _gauge(
        "model_requests_in_flight",
        "Predictions that wait or run now.",
        labels,
        [(name, counts.in_flight) for name, counts in named],
    )
    yield _gauge(
        "model_replicas",
        "Processes that serve the version; 0 while it is loaded or after it has failed.",
        labels,
        [(name, counts.replicas) for name, counts in named],
    )


def _workspaces(workspaces: list[WorkspaceCounts]) -> Iterator[Metric]:
    yield _gauge(
        "workspace_jobs_waiting",
        "The length of a workspace's queue.",
        ["workspace"],
        [([each.name], each.waiting) for each in workspaces],
    )
    yield _gauge(
        "workspace_jobs_running",
        "Jobs under way.",
        ["workspace"],
        [([each.name], each.running) for each in workspaces],
    )
    yield _counter(
        "workspace_jobs",
        "Jobs that have ended since the server began, by kind and outcome.",
        ["workspace", "kind", "outcome"],
        [
            ([each.name, kind, state], states.get(state, 0))
            for each in workspaces
            for kind, states in each.jobs.items()
            for state in FINISHED_STATES
        ],
    )
    yield _gauge(
        "workspace_state",
        "1 for the state that a workspace is in, 0 for the others.",
        ["workspace", "state"],
        [([each.name, state], int(each.state == state)) for each in workspaces for state in WORKSPACE_STATES],
    )


def _processes(processes: list[ProcessUse]) -> Iterator[Metric]:
    labels = ["role", "workspace", "pid"]
    named = [([each.role, each.workspace, str(each.pid)], each) for each in processes]
    yield _gauge(
        "process_resident_memory_bytes",
        "Resident memory of each process.",
        labels,
        [(name, each.memory_bytes) for name, each in named],
    )
    yield _counter(
        "process_cpu_seconds",
        "CPU time of each process, in user and system mode.",
        labels,
        [(name, each.cpu_s) for name, each in named],
    )


Samples = Iterable[tuple[list[str], float]]


def _gauge(name: str, help_: str, labels: list[str], samples: Samples) -> Metric:
    family = GaugeMetricFamily(f"tfserve_{name}", help_, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _counter(name: str, help_: str, labels: list[str], samples: Samples) -> Metric:
    """Prometheus adds `_total` to the name."""
    family = CounterMetricFamily(f"tfserve_{name}", help_, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _buckets(bounds: Iterable[float], counts: Iterable[int]) -> list[tuple[str, float]]:
    """As Prometheus wants them: how many were not above each bound."""
    return list(zip([*map(floatToGoString, bounds), "+Inf"], accumulate(counts), strict=True))


def _batch_buckets(batch_rows: dict[int, int]) -> list[tuple[str, float]]:
    counts = [0] * (len(BATCH_BUCKETS) + 1)
    for size, rows in batch_rows.items():
        place = next((i for i, bound in enumerate(BATCH_BUCKETS) if size <= bound), len(BATCH_BUCKETS))
        # Rounded up: a request whose client has left is missing from its batch.
        counts[place] += -(-rows // max(1, size))
    return _buckets(BATCH_BUCKETS, counts)
