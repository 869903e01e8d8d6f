"""What waits for a model: order, urgency, groups, and requests that are dropped."""

from __future__ import annotations

import dataclasses

from tfserve.ipc.predictions import ComputeRequest, ComputeResult, Refusal
from tfserve.worker.model.request_queue import RequestQueue, Waiting


class Nobody:
    def answer(self, request_id: int, answer: ComputeResult | Refusal) -> None:
        raise AssertionError("nothing is computed here")

    def flush(self) -> None:
        raise AssertionError("nothing is computed here")


ASKER = Nobody()


def request(number: int, group: str = "a", *, urgency: int = 3, rows: int | None = 1, asker: Nobody = ASKER) -> Waiting:
    return Waiting(asker, number, ComputeRequest("s", (), (), (), urgency), rows, (urgency, group), number)


def ids(batch: list[Waiting]) -> list[int]:
    return [each.id for each in batch]


def test_what_belongs_together_is_taken_together_in_order() -> None:
    room = RequestQueue()
    for number, group in enumerate("abab"):
        room.put(request(number, group))
    group = room.next_group()
    assert group is not None
    assert ids(room.take(group, 10)) == [0, 2]
    assert len(room) == 2


def test_no_more_rows_are_taken_than_a_batch_may_have_but_always_one_request() -> None:
    room = RequestQueue()
    for number, rows in enumerate((3, 2, 2, 9)):
        room.put(request(number, rows=rows))
    group = room.next_group()
    assert group is not None
    assert [ids(room.take(group, 5)) for _ in range(3)] == [[0, 1], [2], [3]]
    assert room.next_group() is None


def test_the_most_urgent_goes_first_and_then_the_oldest() -> None:
    room = RequestQueue()
    room.put(request(0, "a"))
    room.put(request(1, "b"))
    room.put(request(2, "c", urgency=0))
    order = []
    while (group := room.next_group()) is not None:
        order += ids(room.take(group, 10))
    assert order == [2, 0, 1]


def test_a_request_that_is_dropped_is_never_taken() -> None:
    room = RequestQueue()
    for number in range(3):
        room.put(request(number))
    room.drop(ASKER, 1)
    room.drop(ASKER, 7)
    group = room.next_group()
    assert group is not None
    assert ids(room.take(group, 10)) == [0, 2]


def test_with_its_line_goes_all_that_came_over_it() -> None:
    room, other = RequestQueue(), Nobody()
    room.put(request(0))
    room.put(request(0, asker=other))
    room.drop_all(ASKER)
    group = room.next_group()
    assert group is not None
    (left,) = room.take(group, 10)
    assert left.asker is other
    assert room.next_group() is None


def test_the_memory_of_what_was_made_ready_is_known_until_it_is_taken_or_dropped() -> None:
    room = RequestQueue()
    for number in range(4):
        room.put(dataclasses.replace(request(number), prepared_bytes=10**number))
    assert room.prepared_bytes == 1111
    room.drop(ASKER, 2)
    assert room.prepared_bytes == 1011
    group = room.next_group()
    assert group is not None
    room.take(group, 2)
    assert room.prepared_bytes == 1000
    room.drop_all(ASKER)
    assert room.prepared_bytes == 0
