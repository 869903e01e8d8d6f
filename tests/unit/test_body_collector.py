"""Bodies are put together as they came, in whatever pieces, and never take more than they may."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserve.web.http import body_collector
from tfserve.web.http.body_collector import SMALL, BodyCollector

SIZES = st.sampled_from([0, 1, 2, 100, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL])


@given(st.lists(SIZES, max_size=20))
def test_pieces_of_all_sizes_become_the_body(sizes: list[int]) -> None:
    pieces = [bytes([n]) * size for n, size in enumerate(sizes)]
    collector = BodyCollector(limit=sum(sizes))
    for piece in pieces:
        collector.add(piece)
    collector.finish()
    assert (collector.whole(), collector.is_too_large) == (b"".join(pieces), False)


def test_what_is_too_large_is_reported_at_once_and_not_kept() -> None:
    collector = BodyCollector(limit=10)
    collector.add(b"x" * 10)
    assert not collector.done.is_set()
    collector.add(b"x")
    assert (collector.done.is_set(), collector.is_too_large, collector.whole()) == (True, True, b"")
    collector.add(b"more")
    assert collector.whole() == b""


def test_a_client_that_goes_is_reported_unless_its_body_is_complete() -> None:
    gone, complete = BodyCollector(10), BodyCollector(10)
    gone.lost()
    complete.finish()
    complete.lost()
    assert (gone.is_lost, complete.is_lost) == (True, False)
    asyncio.run(gone.done.wait())


def test_many_small_pieces_take_no_more_than_their_bytes() -> None:
    collector = BodyCollector(limit=10_000_000)
    tracemalloc.start()
    for _ in range(200_000):
        collector.add(b"xy" * 2)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 1_500_000
    assert len(collector.whole()) == 800_000


def test_small_pieces_are_copied_together_again_and_again_not_all_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_collector, "FULL", 100)
    collector = BodyCollector(limit=10_000)
    for n in range(100):
        collector.add(bytes([n]) * 30)
    assert collector.whole() == b"".join(bytes([n]) * 30 for n in range(100))
