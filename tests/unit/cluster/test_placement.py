"""The choice of a machine for a worker."""

from __future__ import annotations

import pytest

from tfserve.errors import Invalid
from tfserve.ipc.messages import PACK, Demand
from tfserve.supervisor.cluster.placement import CandidateNode, choose, for_ray, from_ray, shortage

GIB = float(2**30)
SMALL = {"cpu": 4.0, "gpu": 0.0, "memory": 8 * GIB}
BIG = {"cpu": 64.0, "gpu": 2.0, "memory": 256 * GIB}


def machine(name: str, workers: int = 0, total: dict[str, float] | None = None, **free: float) -> CandidateNode:
    total = total or SMALL
    return CandidateNode(name, total, total | free, workers)


def chosen(demand: Demand, *candidates: CandidateNode) -> str | None:
    return choose(demand, candidates).node


def test_a_demand_without_resources_goes_to_the_emptiest_machine() -> None:
    assert chosen(Demand(), machine("a", workers=2), machine("b", workers=1)) == "b"


def test_spread_avoids_machines_with_replicas_of_the_same_model() -> None:
    spread = Demand(siblings={"a": 1})
    assert chosen(spread, machine("a"), machine("b", workers=5)) == "b", "although a has fewer workers"


def test_pack_prefers_machines_with_replicas_of_the_same_model() -> None:
    pack = Demand(placement=PACK, siblings={"a": 1})
    assert chosen(pack, machine("a"), machine("b", workers=5)) == "a"


def test_pack_moves_on_when_a_machine_is_full() -> None:
    pack = Demand(resources={"cpu": 2}, placement=PACK, siblings={"a": 2})
    assert chosen(pack, machine("a", cpu=1), machine("b")) == "b"


@pytest.mark.parametrize("resources", [{"gpu": 1}, {"cpu": 5}, {"memory": "9GiB"}, {"node": "big"}])
def test_only_a_machine_that_has_the_resources_is_chosen(resources: dict[str, float | str]) -> None:
    assert chosen(Demand(resources=resources), machine("a"), machine("big", workers=9, total=BIG)) == "big"


def test_the_reason_says_what_was_requested_and_what_is_free() -> None:
    choice = choose(Demand(resources={"gpu": 2}), [machine("a"), machine("big", total=BIG, gpu=1)])
    assert choice.problem == "it needs gpu 2, and the nodes have free: a: gpu 0; big: gpu 1."
    assert choice.ever, "big has both when nothing else runs there"


def test_the_reason_says_that_no_machine_can_ever_meet_it() -> None:
    choice = choose(Demand(resources={"memory": "1000GiB"}), [machine("a")])
    assert choice.problem == "it needs memory 1000.0 GiB, and the nodes have in all: a: memory 8.0 GiB."
    assert not choice.ever


def test_an_unknown_node_is_named_with_those_that_are_connected() -> None:
    choice = choose(Demand(resources={"node": "c"}), [machine("a"), machine("b")])
    assert choice.problem == "node c is not connected (connected nodes: a, b)."
    assert not choice.ever


def test_several_processes_may_need_more_than_all_machines_have() -> None:
    demand = Demand(resources={"gpu": 1})
    machines = [machine("a", total=BIG), machine("b", total=BIG)]
    assert shortage(demand, 4, machines) == ""
    assert shortage(demand, 5, machines) == (
        "gpu 1 for each of 5 processes requested, and the nodes have in all: a: gpu 2; b: gpu 2"
    )


def test_an_amount_that_can_not_be_read_is_refused() -> None:
    with pytest.raises(Invalid, match=r"resources\.cpu must be a number"):
        choose(Demand(resources={"cpu": "two"}), [machine("a")])


def test_amounts_have_the_names_of_ray_there_and_ours_here() -> None:
    assert for_ray({"cpu": 2, "gpu": 1, "memory": 5, "tpu": 1}) == {"CPU": 2, "GPU": 1, "memory": 5, "tpu": 1}
    shown = from_ray({"CPU": 2, "memory": 5, "node:10.0.0.1": 1, "object_store_memory": 7})
    assert shown == {"cpu": 2, "memory": 5}
