"""The table of metrics lists all metrics with type and labels, operations.md all fields of the access log."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs_samples import generated
from tfserve.ipc.messages import Metrics, NodeStatus
from tfserve.ipc.metrics import (
    BatchCount,
    Deaths,
    Duration,
    Histogram,
    ModelCounts,
    ModelJobCounts,
    NamedCounts,
    ProcessUse,
    TrainingCounts,
    WorkspaceCounts,
)
from tfserve.web.api.metrics.families import families
from tfserve.web.http.access_log import AccessLogEntry

ROOT = Path(__file__).parents[2]
BUCKETS = 16

#: a server in which everything has happened once
METRICS = Metrics(
    version="1", started_at=1.0, http_errors={"v1": {"400": 1}},
    models=[
        NamedCounts(
            "m", 1,
            ModelCounts(
                requests={"v1": {"ok": 1}}, latency={"v1": Histogram([1] * BUCKETS, 0.5)}, success=Duration(1, 1),
                batches={1: BatchCount(1, 1)},
            ),
        )
    ],
    workspaces=[WorkspaceCounts("m", "ready", 0, 0, {"script": {"lost": 1}})],
    trainings=TrainingCounts(0, 0, {}),
    model_jobs=[ModelJobCounts("batch", 0, 0, {"succeeded": 1})],
    processes=[ProcessUse("web", "", 7, 1, 1.0, "head")],
    deaths=[Deaths("web", "", 0)],
    nodes=[
        NodeStatus(
            name="big", address="10.0.0.3", state="ready", reason="", version="1", http="",
            resources=dict.fromkeys(("cpu", "gpu", "memory"), 1.0), free=dict.fromkeys(("cpu", "gpu", "memory"), 1.0),
            workers=1, since=0.0,
        )
    ],
)  # fmt: skip


def test_the_table_of_metrics_is_complete_and_true() -> None:
    page = generated("metrics")
    rows = re.findall(r"^\| `(tfserve_\w+)` \| (\w+) \| ([\w, ]*)\|", page, re.MULTILINE)
    listed = {(name, type_, frozenset(filter(None, labels.strip().split(", ")))) for name, type_, labels in rows}
    expected = {
        (
            family.name + "_total" * (family.type == "counter"),
            family.type,
            frozenset(set(family.samples[0].labels) - {"le"}),
        )
        for family in families(METRICS)
    }
    assert listed == expected


def test_the_fields_of_the_access_log_are_listed() -> None:
    page = (ROOT / "docs" / "reference" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("## Access log")[2].partition("## Request ids")[0]
    fields = [
        name for row in re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    ]
    assert sorted(fields) == sorted(AccessLogEntry.__struct_fields__)
