"""Which machines there are, and what runs where."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.core import CollectorRegistry
from supervised import Start, written

from tfserve import __version__
from tfserve.ipc.messages import GetNodes, GetServer, Metrics, NodeStatus, RunningWorker
from tfserve.ipc.metrics import TrainingCounts
from tfserve.web.api.metrics.families import families

BIG = NodeStatus(
    name="big", address="10.0.0.3", state="ready", reason="", version=__version__, http="http://10.0.0.3:8000",
    resources={"cpu": 8.0, "gpu": 2.0, "memory": 64e9}, free={"cpu": 6.0, "gpu": 1.0, "memory": 60e9}, workers=3,
    since=0.0,
)  # fmt: skip
GONE = NodeStatus(
    name="old", address="10.0.0.4", state="gone", reason="it did not respond for 5 s", version="", http="",
    resources={}, free={}, workers=0, since=0.0,
)  # fmt: skip


async def test_this_machine_is_a_node_that_shows_what_runs_on_it(start: Start, tmp_path: Path) -> None:
    async with start() as server:
        (node,) = await server.line.ask(GetNodes())
        assert (node.name, node.state, node.version, node.runs) == ("head", "ready", __version__, [])
        assert node.resources["cpu"] == len(os.sched_getaffinity(0))
        assert 0 < node.free["memory"] <= node.resources["memory"]
        await server.create()
        await server.deploy(written(tmp_path / "m.echo"), replicas=2)
        await server.run("x = 1")
        await server.create("thread", type_=1)
        await server.run("x = 1", "thread")
        status, found = await server.status(), await server.deployment()
        assert (status["node"], [each["node"] for each in found["processes"]]) == ("head", ["head", "head"])
        expected = [
            RunningWorker("script", "w", status["pid"]),
            *(RunningWorker("model", "w", pid) for pid in found["replicas"]),
            RunningWorker("host", "", server.workspaces.host.child.pid),  # type: ignore[union-attr]
        ]  # fmt: skip
        (node,) = await server.line.ask(GetNodes())
        assert sorted(map(repr, node.runs)) == sorted(map(repr, expected))
        assert node.workers == len(expected)
        assert (await server.line.ask(GetServer()))["nodes"][0]["name"] == "head"


def test_metrics_of_nodes_leave_out_what_a_node_that_is_gone_had() -> None:
    metrics = Metrics(
        version=__version__, started_at=0.0, models=[], http_errors={}, workspaces=[],
        trainings=TrainingCounts(0, 0, {}), processes=[], deaths=[], nodes=[BIG, GONE],
    )  # fmt: skip

    class Collector:
        def collect(self) -> object:
            return families(metrics)

    registry = CollectorRegistry()
    registry.register(Collector())  # type: ignore[arg-type]
    text = generate_latest(registry).decode()
    lines = [line for line in text.splitlines() if line.startswith("tfserve_node_")]
    assert lines == [
        'tfserve_node_up{address="10.0.0.3",node="big"} 1.0',
        'tfserve_node_up{address="10.0.0.4",node="old"} 0.0',
        'tfserve_node_workers{node="big"} 3.0',
        'tfserve_node_processors{node="big"} 8.0',
        'tfserve_node_free_processors{node="big"} 6.0',
        'tfserve_node_gpus{node="big"} 2.0',
        'tfserve_node_free_gpus{node="big"} 1.0',
        'tfserve_node_memory_bytes{node="big"} 6.4e+10',
        'tfserve_node_free_memory_bytes{node="big"} 6e+10',
    ]
