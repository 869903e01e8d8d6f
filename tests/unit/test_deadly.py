"""Which predict requests are blamed for the death of a worker, and what follows for others of their kind."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tfserve.supervisor.deadly import MAX_KINDS, DeadlyKinds, kind_of
from tfserve.supervisor.processes import Exit


def request(feeds: Any, **fields: Any) -> bytes:
    return json.dumps({"fetches": ["y"], "signature": "s", "feed_dict": feeds, **fields}).encode()


def died(signal_: int | None) -> Exit:
    return Exit(code=None if signal_ else 70, signal=signal_, peak_memory_bytes=0, lived_s=1)


def test_a_kind_that_has_killed_is_remembered_until_it_is_forgotten() -> None:
    deadly, first = DeadlyKinds(), request({"x": [[1.5, 2]]})
    assert first not in deadly
    deadly.note(first, died(signal.SIGABRT), attempts=1)
    assert request({"x": [[9, 9]]}) in deadly
    assert request({"x": [9, 9]}) not in deadly
    deadly.forget()
    assert first not in deadly


def test_a_single_kill_from_outside_is_not_blamed_on_the_request() -> None:
    deadly = DeadlyKinds()
    deadly.note(request({"x": [1]}), died(signal.SIGKILL), attempts=1)
    assert request({"x": [1]}) not in deadly
    deadly.note(request({"x": [1]}), died(signal.SIGKILL), attempts=2)
    assert request({"x": [1]}) in deadly


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({"x": [[1]], "z": "a"}, {"z": "b", "x": [[-2]]}, True),
        ({"x": [[1]]}, {"x": [["1"]]}, False),
        ({"x": {"b64": "a"}}, {"x": {"b64": "b"}}, True),
        ({"x": 1}, {"y": 1}, False),
        ({"x": []}, {"x": [1]}, False),
        ({}, None, True),
    ],
)
def test_requests_are_of_one_kind_by_their_names_nesting_and_first_elements(
    one: Any, other: Any, is_same: bool
) -> None:
    assert (kind_of(request(one)) == kind_of(request(other))) is is_same
    assert kind_of(request(one)) != kind_of(request(one, fetches=["z"]))
    assert kind_of(request(one)) != kind_of(request(one, signature="t"))


def test_what_can_not_be_read_is_a_kind_of_its_own() -> None:
    assert kind_of(b"[") == kind_of(b"\xff") != kind_of(b"{}")


def test_only_so_many_kinds_are_remembered() -> None:
    deadly = DeadlyKinds()
    for number in range(MAX_KINDS + 1):
        deadly.note(request({str(number): 1}), died(signal.SIGSEGV), attempts=1)
    assert request({"0": 1}) not in deadly
    assert request({"1": 1}) in deadly
