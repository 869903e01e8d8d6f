"""The table of metrics: name, help text and source of each."""

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

from tfserve.ipc.messages import FINISHED, Metrics, NodeStatus
from tfserve.ipc.metrics import LATENCY_BUCKETS_S, ModelJobCounts, NamedCounts, ProcessUse, WorkspaceCounts

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
WORKSPACE_STATES = ("idle", "starting", "ready", "restarting", "failed")


def families(metrics: Metrics) -> Iterator[Metric]:
    """All metrics; each begins with `tfserve_`."""
    yield _gauge("build_info", "Server version, as a label; always 1.", ["version"], [([metrics.version], 1)])
    yield _gauge("start_time_seconds", "Start time of the server in Unix time.", [], [([], metrics.started_at)])
    yield from _models(metrics.models)
    yield _counter(
        "http_errors",
        "HTTP error responses, by API (v1, v2, other) and status.",
        ["api", "status"],
        [([api, status], n) for api, statuses in metrics.http_errors.items() for status, n in statuses.items()],
    )
    yield from _workspaces(metrics.workspaces)
    trainings = metrics.trainings
    yield _gauge("training_runs_waiting", "Queued training runs.", [], [([], trainings.waiting)])
    yield _gauge("training_runs_running", "Running training runs.", [], [([], trainings.running)])
    yield _counter(
        "training_runs",
        "Training runs that ended since the server started, by outcome.",
        ["outcome"],
        [([state], trainings.runs.get(state, 0)) for state in FINISHED],
    )
    yield from _model_jobs(metrics.model_jobs)
    yield from _processes(metrics.processes)
    yield from _nodes(metrics.nodes)
    yield _counter(
        "process_deaths",
        "Unexpected process exits since the server started; processes are restarted if needed.",
        ["role", "workspace"],
        [([each.role, each.workspace], each.count) for each in metrics.deaths],
    )


def _model_jobs(counts: list[ModelJobCounts]) -> Iterator[Metric]:
    waiting = [([each.kind], each.waiting) for each in counts]
    running = [([each.kind], each.running) for each in counts]
    yield _gauge("model_jobs_waiting", "Queued deferred predictions and batches, by kind.", ["kind"], waiting)
    yield _gauge("model_jobs_running", "Running deferred predictions and batches, by kind.", ["kind"], running)
    yield _counter(
        "model_jobs",
        "Deferred predictions and batches that ended since the server started, by kind and outcome.",
        ["kind", "outcome"],
        [([each.kind, state], each.ended.get(state, 0)) for each in counts for state in FINISHED],
    )


def _models(models: list[NamedCounts]) -> Iterator[Metric]:
    labels = ["model", "version"]
    named = [([each.model, str(each.version)], each.counts) for each in models]
    yield _counter(
        "model_requests",
        "Completed predictions, by protocol and outcome (ok, a kind of error, or client_gone).",
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
        "Prediction latency, including time in the queue.",
        labels=[*labels, "protocol"],
    )
    queue = SummaryMetricFamily(
        "tfserve_model_queue_duration_seconds",
        "Time that completed predictions spent in the queue.",
        labels=labels,
    )
    batches = HistogramMetricFamily("tfserve_model_batch_rows", "Batch sizes, in rows.", labels=labels)
    for name, counts in named:
        for protocol, each in counts.latency.items():
            latency.add_metric([*name, protocol], _buckets(LATENCY_BUCKETS_S, each.counts), each.sum_s)
        queue.add_metric(name, counts.success.count, counts.queue_ns / 1e9)
        batch_rows = {size: batch.rows for size, batch in counts.batches.items()}
        batches.add_metric(name, _batch_buckets(batch_rows), sum(batch_rows.values()))
    yield latency
    yield queue
    yield batches
    yield _gauge(
        "model_requests_in_flight",
        "Queued and running predictions.",
        labels,
        [(name, counts.in_flight) for name, counts in named],
    )
    yield _gauge(
        "model_computations",
        "Batches that the processes of the version compute at once at load.",
        labels,
        [(name, counts.computations) for name, counts in named],
    )
    yield _gauge(
        "model_replicas",
        "Processes serving the version; 0 while it is loading or sleeping, or after it failed.",
        labels,
        [(name, counts.replicas) for name, counts in named],
    )
    yield _gauge(
        "model_sleeping",
        "1 while the version has no process because it is not used; the next prediction starts one.",
        labels,
        [(name, counts.sleeping) for name, counts in named],
    )


def _workspaces(workspaces: list[WorkspaceCounts]) -> Iterator[Metric]:
    yield _gauge(
        "workspace_jobs_waiting",
        "Queued jobs of a workspace.",
        ["workspace"],
        [([each.name], each.waiting) for each in workspaces],
    )
    yield _gauge(
        "workspace_jobs_running",
        "Running jobs of a workspace.",
        ["workspace"],
        [([each.name], each.running) for each in workspaces],
    )
    yield _counter(
        "workspace_jobs",
        "Jobs that ended since the server started, by kind and outcome.",
        ["workspace", "kind", "outcome"],
        [
            ([each.name, kind, state], states.get(state, 0))
            for each in workspaces
            for kind, states in each.jobs.items()
            for state in FINISHED
        ],
    )
    yield _gauge(
        "workspace_state",
        "1 for the current state of a workspace, 0 for other states.",
        ["workspace", "state"],
        [([each.name, state], int(each.state == state)) for each in workspaces for state in WORKSPACE_STATES],
    )


def _processes(processes: list[ProcessUse]) -> Iterator[Metric]:
    labels = ["role", "workspace", "pid", "node"]
    named = [([each.role, each.workspace, str(each.pid), each.node], each) for each in processes]
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


def _nodes(nodes: list[NodeStatus]) -> Iterator[Metric]:
    """Amounts are those of nodes that are there: what a node that is gone had is not available."""
    present = [node for node in nodes if node.state != "gone"]
    yield _gauge(
        "node_up",
        "1 for a machine that runs workers, 0 for one that is starting or gone.",
        ["node", "address"],
        [([node.name, node.address], int(node.state == "ready")) for node in nodes],
    )
    yield _gauge("node_workers", "Workers on a machine.", ["node"], [([node.name], node.workers) for node in present])
    for resource, noun in (("cpu", "processors"), ("gpu", "gpus"), ("memory", "memory_bytes")):
        shown = noun.replace("gpus", "GPUs").replace("memory_bytes", "memory in bytes")
        total = [([node.name], node.resources[resource]) for node in present if resource in node.resources]
        free = [([node.name], node.free[resource]) for node in present if resource in node.free]
        yield _gauge(f"node_{noun}", f"{shown[:1].upper()}{shown[1:]} of a machine.", ["node"], total)
        yield _gauge(f"node_free_{noun}", f"{shown[:1].upper()}{shown[1:]} that nothing reserves.", ["node"], free)


Samples = Iterable[tuple[list[str], float]]


def _gauge(name: str, help_: str, labels: list[str], samples: Samples) -> Metric:
    family = GaugeMetricFamily(f"tfserve_{name}", help_, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _counter(name: str, help_: str, labels: list[str], samples: Samples) -> Metric:
    """The Prometheus client adds `_total` to the name."""
    family = CounterMetricFamily(f"tfserve_{name}", help_, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _buckets(bounds: Iterable[float], counts: Iterable[int]) -> list[tuple[str, float]]:
    """Cumulative buckets: the count of values up to each bound."""
    return list(zip([*map(floatToGoString, bounds), "+Inf"], accumulate(counts), strict=True))


def _batch_buckets(batch_rows: dict[int, int]) -> list[tuple[str, float]]:
    counts = [0] * (len(BATCH_BUCKETS) + 1)
    for size, rows in batch_rows.items():
        place = next((i for i, bound in enumerate(BATCH_BUCKETS) if size <= bound), len(BATCH_BUCKETS))
        # Rounded up, because a request whose client disconnected is missing from its batch.
        counts[place] += -(-rows // max(1, size))
    return _buckets(BATCH_BUCKETS, counts)
