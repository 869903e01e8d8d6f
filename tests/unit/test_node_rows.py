"""What the pages show of nodes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tfserve.ipc.messages import NodeStatus, RunningWorker
from tfserve.web.pages.node_rows import MAX_RUNS, NodeRow, nodes_of

GIB = 2.0**30
NODE = NodeStatus(
    name="big", address="10.0.0.3", state="ready", reason="", version="1", http="",
    resources={"cpu": 8.0, "gpu": 2.0, "memory": 64 * GIB, "tpu": 4.0, "accelerator_type:A100": 1.0},
    free={"cpu": 6.5, "gpu": 1.5, "memory": 60 * GIB, "tpu": 4.0}, workers=3, since=0.0,
    runs=[
        RunningWorker("model", "prices", 7), RunningWorker("script", "notes", 8), RunningWorker("model", "prices", 9),
        RunningWorker("host", "", 10),
    ],
)  # fmt: skip


def test_what_is_free_is_shown_of_what_there_is() -> None:
    row = NodeRow(NODE)
    assert (row.cpus, row.gpus, row.memory) == ("6.5 of 8", "1.5 of 2", "60 GiB of 64 GiB")
    assert row.others == [("tpu", "4 of 4")]
    nothing = NodeRow(replace(NODE, resources={"cpu": 2.0, "gpu": 0.0}, free={}))
    assert (nothing.cpus, nothing.gpus, nothing.memory) == ("0 of 2", "", "")


def test_workers_of_one_role_and_name_are_counted() -> None:
    runs = [(each.what, each.name, each.number, each.pids, each.page) for each in NodeRow(NODE).runs]
    assert runs == [
        ("model", "prices", 2, "7, 9", "model"),
        ("scripts of", "notes", 1, "8", "workspace"),
        ("workspaces of type 1", "", 1, "10", ""),
    ]
    many = replace(NODE, runs=[RunningWorker("model", f"m{n}", n) for n in range(MAX_RUNS + 5)])
    assert (len(NodeRow(many).runs), NodeRow(many).more) == (MAX_RUNS, 5)


@pytest.mark.parametrize(
    ("nodes", "shown"),
    [([], ""), (["head", "head"], ""), (["big"], "big"), (["big", "head", "big"], "big (2), head")],
)
def test_the_nodes_of_a_model_are_shown_if_there_are_others(nodes: list[str], shown: str) -> None:
    assert nodes_of({"processes": [{"pid": 1, "node": each} for each in nodes]}) == shown
