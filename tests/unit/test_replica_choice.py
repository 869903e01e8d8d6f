"""Which replica gets the next prediction."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tfserve.web.predictions.pool import least_busy


class Replica(NamedTuple):
    name: str
    load: int = 0
    is_near: bool = False
    alive: bool = True


@pytest.mark.parametrize(
    ("replicas", "chosen"),
    [
        ([], None),
        ([Replica("dead", alive=False)], None),
        ([Replica("far"), Replica("near", is_near=True)], "near"),
        ([Replica("near", is_near=True), Replica("far")], "near"),
        ([Replica("near", 3, is_near=True), Replica("far", 3)], "near"),
        ([Replica("near", 3, is_near=True), Replica("far", 2)], "far"),
        ([Replica("far", 4), Replica("farther", 2)], "farther"),
        ([Replica("near", 0, is_near=True, alive=False), Replica("far", 9)], "far"),
        ([Replica("a", 1, is_near=True), Replica("b", 0, is_near=True)], "b"),
    ],
)
def test_the_least_busy_replica_is_chosen_and_among_equals_one_of_this_node(
    replicas: list[Replica], chosen: str | None
) -> None:
    best = least_busy(replicas)
    assert (best.name if best else None) == chosen
