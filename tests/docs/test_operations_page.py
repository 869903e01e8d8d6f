"""docs/operations.md has every metric that there is, with its type and labels, and every field of the access log."""

from __future__ import annotations

import re
from pathlib import Path

from tfserve.ipc.messages import Metrics
from tfserve.ipc.metrics import (
    BatchCount,
    Deaths,
    Duration,
    ModelCounts,
    NamedCounts,
    ProcessUse,
    TrainingCounts,
    WorkspaceCounts,
)
from tfserve.web.api.metrics.families import families
from tfserve.web.http.access_log import Entry

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
BUCKETS = 16

#: a server in which everything has happened once
METRICS = Metrics(
    version="1", started_at=1.0, http_errors={"v1": {"400": 1}},
    models=[
        NamedCounts(
            "m", 1,
            ModelCounts(
                requests={"v1": {"ok": 1}}, latency={"v1": ([1] * BUCKETS, 0.5)}, success=Duration(1, 1),
                batches={1: BatchCount(1, 1)},
            ),
        )
    ],
    workspaces=[WorkspaceCounts("m", "ready", 0, 0, {"script": {"lost": 1}})],
    trainings=TrainingCounts(0, 0, {}),
    processes=[ProcessUse("web", "", 7, 1, 1.0)],
    deaths=[Deaths("web", "", 0)],
)  # fmt: skip


def test_the_table_of_metrics_is_complete_and_true() -> None:
    rows = re.findall(r"^\| `(tfserve_\w+)` \| (\w+) \| ([\w, ]*)\|", PAGE, re.MULTILINE)
    told = {(name, type_, frozenset(filter(None, labels.strip().split(", ")))) for name, type_, labels in rows}
    there = {
        (
            family.name + "_total" * (family.type == "counter"),
            family.type,
            frozenset(set(family.samples[0].labels) - {"le"}),
        )
        for family in families(METRICS)
    }
    assert told == there


def test_the_fields_of_the_access_log_are_told() -> None:
    section = PAGE.partition("## Access log")[2].partition("## Request ids")[0]
    fields = [
        name for row in re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    ]
    assert sorted(fields) == sorted(Entry.__struct_fields__)
