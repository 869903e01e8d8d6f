"""Measures a cluster of four machines made of network namespaces: python -m benchmarks.cluster (needs root and Ray).

Throughput against the number of nodes, the cost of the hop to a node, the start of a worker there, the bytes of a
second deployment, and the head's processor time for a prediction on a node. The machines share the processors: only a
model that waits shows how predictions scale.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

from rich.console import Console

from benchmarks.http_load import Exchange, JsonExchange, Result, exchange
from benchmarks.predictions import models
from benchmarks.process_tree import ProcessTree
from benchmarks.requests import Checked, Request, Samples
from benchmarks.tables import Row, show
from benchmarks.tfserve_participant import TFserve, Variant
from tests.ray_cluster.cluster import Cluster
from tests.ray_cluster.machines import Machine, Machines, missing

WAIT_S = 0.02
"""How long one computation of the model waits that shows how predictions scale."""
BODY = json.dumps({"instances": [[1.0, 2.0]]}).encode()
ANSWER = {"predictions": [[1.0, 2.0]]}
COMPUTE_ONE = {"max_batch_size": 1, "computations": 1}
ROWS = {"small-json": "small", "mobilenet-raw": "mobilenet"}

console = Console(width=160)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="how long each load takes (5)")
    options = parser.parse_args()
    if (reason := missing()) is not None:
        sys.exit(reason)
    models()  # made before the machines are
    with Machines(4) as machines, tempfile.TemporaryDirectory(prefix="cluster-") as folder:
        cluster = Cluster(machines, Path(folder), TFSERVE_ROOTS=f"{folder}:{models()}")
        try:
            for machine in cluster.node_machines:
                cluster.start_node(machine)
            rows = [
                *throughput(cluster, options.seconds), *second_deployment(cluster), *starts(cluster),
                *hops(cluster, options.seconds),
            ]  # fmt: skip
        finally:
            cluster.close()
    show(console, rows)


def throughput(cluster: Cluster, seconds: float) -> list[Row]:
    """Requests per second with one replica on each of 1, 2 and 3 nodes."""
    file = cluster.models / "waits.echo"
    tensor = {"x": {"dtype": "float32", "shape": [-1, 2]}}
    file.write_text(json.dumps({"signatures": {"serving_default": tensor}, "delay_s": WAIT_S}))
    cluster.workspace("waits")
    cluster.deploy("waits", file, placement="spread", resources={"cpu": 1}, **COMPUTE_ONE)
    rates: list[float] = []
    for count in range(1, len(cluster.node_machines) + 1):
        cluster.call("/scale/", name="waits", replicas=count)
        request = JsonExchange("/v1/models/waits:predict", BODY, lambda answer: answer == ANSWER)
        rates.append(asked(cluster.url, request, connections=8 * count, seconds=seconds).rate)
    places = ", ".join(sorted(each["node"] for each in cluster.replicas("waits")))
    cluster.call("/undeploy/", name="waits", timeout=60)
    return [
        (f"{n} nodes: requests per second ({places})" if n == len(rates) else f"{n} nodes: requests per second",
         f"{rate:.1f} ({rate / rates[0] / n:.2f} x n)", "0.9 x n")
        for n, rate in enumerate(rates, 1)
    ]  # fmt: skip


def second_deployment(cluster: Cluster) -> list[Row]:
    """The bytes that a node receives for a model, and for the same model again."""
    node, found = cluster.node_machines[0], []
    for name in ("first", "second"):
        cluster.workspace(name)
        before = received(node)
        cluster.deploy(name, models() / "mobilenet", resources={"node": node.name})
        found.append(received(node) - before)
        cluster.call("/undeploy/", name=name, timeout=60)
    return [(f"bytes to a node for a {name} deployment of MobileNetV2", f"{count / 1e6:.3f} MB", goal)
            for name, count, goal in zip(("first", "second"), found, ("", "0"), strict=True)]  # fmt: skip


def received(node: Machine) -> int:
    """The bytes that the machine has received so far: its end of the link is not visible here, so those sent to it."""
    return int(Path(f"/sys/class/net/{node.port}/statistics/tx_bytes").read_text())


def starts(cluster: Cluster) -> list[Row]:
    """Seconds from the request to the response of a deployment of a small SavedModel on a node."""
    node, found = cluster.node_machines[1], []
    cluster.workspace("starts")
    cluster.until(lambda: cluster.node(node.name).get("spare", True))
    for _ in range(3):
        began = time.perf_counter()
        cluster.deploy("starts", models() / "small", resources={"node": node.name})
        found.append(time.perf_counter() - began)
        cluster.call("/undeploy/", name="starts", timeout=60)
    return [
        ("start of a model on a node, seconds: the first, and later ones", ", ".join(f"{s:.2f}" for s in found), "")
    ]


def hops(cluster: Cluster, seconds: float) -> list[Row]:
    """p50 at one connection, and the head's processor time, for a model on the head and on a node."""
    samples, rows = Samples(models()), []
    node = cluster.node_machines[0]
    for row, model in ROWS.items():
        request = TFserve(Variant("tensorflow", "")).ask(row, samples)
        assert isinstance(request, Request), request
        prediction = Checked(request, samples.expected(row))
        cluster.workspace(model)
        for place in ("head", node.name):
            cluster.deploy(model, models() / model, runtime="tensorflow", resources={"node": place})
            urls = {"the head": cluster.url, "the node": cluster.url_of(node)}
            for through, url in urls.items():
                asked(url, prediction, connections=1, seconds=1)
                tree = ProcessTree(cluster.head.process.pid)
                before = tree.cpu_s_by_role()
                result = asked(url, prediction, connections=1, seconds=seconds)
                spent = tree.cpu_s_by_role()
                cost = {role: (spent[role] - before[role]) / len(result.times) * 1e6 for role in ("web", "supervisor")}
                head = f"web {cost['web']:.0f}, supervisor {cost['supervisor']:.0f} us"
                what = f"{row}: model on {place}, asked through {through}"
                rows.append((what, f"p50 {result.p50_ms:.2f} ms; head: {head}", ""))
        cluster.call("/undeploy/", name=model, timeout=60)
    return rows


def asked(url: str, request: Exchange, *, connections: int, seconds: float) -> Result:
    """What came back in this time. Raises `AssertionError` for a failure."""
    ends_at = time.perf_counter() + seconds

    def requests() -> Iterator[Exchange]:
        for each in repeat(request):
            if time.perf_counter() >= ends_at:
                return
            yield each

    result = exchange(url, requests(), connections=connections)
    assert not result.failures, statistics.mode(result.failures)
    return result


if __name__ == "__main__":
    main()
