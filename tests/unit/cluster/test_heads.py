"""Which of several heads a node finds, and what it reports if none can be reached."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tfserve.cluster.connecting import CannotConnect
from tfserve.cluster.heads import Heads, NoHead
from tfserve.errors import Forbidden, Invalid

A, B = "10.0.0.1:7700", "10.0.0.5:7700"


class Refused(Forbidden):
    """It refuses."""


def attempts(**behaviour: Exception | asyncio.Event) -> Callable[[str], Awaitable[str]]:
    """What happens at each address, by the letter of its host: a failure, or success once the event is set."""

    async def attempt(address: str) -> str:
        acts = behaviour[{A: "a", B: "b"}[address]]
        if isinstance(acts, Exception):
            raise acts
        await acts.wait()
        return address

    return attempt


def away(address: str) -> CannotConnect:
    return CannotConnect(address=address, cause="nothing listens there.")


def answers() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


def first(heads: Heads, attempt: Callable[[str], Awaitable[str]], discarded: list[str] | None = None) -> str:
    return asyncio.run(heads.first(attempt, (discarded if discarded is not None else []).append))


def test_the_standby_is_found_when_the_head_is_away_and_is_tried_first_from_then_on() -> None:
    heads = Heads(f"{A}, {B}")
    assert str(heads) == f"{A},{B}"
    assert first(heads, attempts(a=away(A), b=answers())) == B
    assert heads.addresses == [B, A]


def test_a_head_that_does_not_respond_delays_the_next_only_for_a_moment() -> None:
    heads = Heads(f"{A},{B}")

    async def find() -> tuple[str, float]:
        began = asyncio.get_running_loop().time()
        found = await heads.first(attempts(a=asyncio.Event(), b=answers()), discard=lambda _: None)
        return found, asyncio.get_running_loop().time() - began

    found, took_s = asyncio.run(find())
    assert found == B
    assert took_s < 4, "a connection to a dead machine takes 5 s to fail"


def test_of_two_that_succeed_at_the_same_moment_one_is_discarded() -> None:
    both, discarded = asyncio.Event(), list[str]()
    heads = Heads(f"{A},{B}")

    async def find() -> str:
        finding = asyncio.ensure_future(heads.first(attempts(a=both, b=both), discarded.append))
        await asyncio.wait([finding], timeout=1.5)
        both.set()
        return await finding

    found = asyncio.run(find())
    assert {found, *discarded} == {A, B}


def test_a_refusal_is_reported_and_not_the_silence_of_the_other() -> None:
    with pytest.raises(Refused):
        first(Heads(f"{A},{B}"), attempts(a=away(A), b=Refused()))


def test_if_none_can_be_reached_both_are_named() -> None:
    with pytest.raises(NoHead) as raised:
        first(Heads(f"{A},{B}"), attempts(a=away(A), b=away(B)))
    assert A in raised.value.message
    assert B in raised.value.message
    with pytest.raises(CannotConnect, match=A):
        first(Heads(A), attempts(a=away(A)))


@pytest.mark.parametrize("text", ["", ",", "10.0.0.1", f"{A},here"])
def test_what_is_not_a_list_of_addresses_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=r"10\.0\.0\.1:7700"):
        Heads(text)
