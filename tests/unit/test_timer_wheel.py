"""Timeouts that share a timer: each comes after its time, unless it was removed."""

from __future__ import annotations

import asyncio
import time

from tfserve.web.http.timer_wheel import SHORT_S, TimerWheel


def test_each_timeout_comes_after_its_time_and_removed_ones_never() -> None:
    async def scenario() -> None:
        done = asyncio.Event()
        came: dict[str, float] = {}
        started = time.monotonic()

        def on_due(key: str, seconds: float) -> None:
            came[key] = time.monotonic() - started - seconds
            if key == "last":
                done.set()

        wheel = TimerWheel(on_due)
        wheel.add("last", 1.3)
        wheel.add("third", 1.1)
        wheel.add("second", 0.2)
        for seconds in (0.2, 1.1):
            wheel.add("removed", seconds).pop("removed")
        wheel.add("first", 0.01)
        await asyncio.wait_for(done.wait(), 5)
        assert list(came) == ["first", "second", "third", "last"]
        assert min(came.values()) >= 0

    asyncio.run(scenario())


def test_a_timeout_may_be_added_when_another_one_comes() -> None:
    async def scenario() -> None:
        done = asyncio.Event()

        def on_due(key: int, _: float) -> None:
            if key:
                wheel.add(key - 1, SHORT_S if key == 2 else 0.0)
            else:
                done.set()

        wheel = TimerWheel(on_due)
        wheel.add(3, SHORT_S)
        await asyncio.wait_for(done.wait(), 5)

    asyncio.run(scenario())


def test_nothing_is_left_of_timeouts_that_were_removed() -> None:
    async def scenario() -> None:
        done = asyncio.Event()
        wheel = TimerWheel[str](lambda *_: done.set())
        for number in range(10_000):
            wheel.add(str(number), SHORT_S + number / 1e5).pop(str(number))
        wheel.add("end", SHORT_S + 0.2)
        await asyncio.wait_for(done.wait(), 5)
        assert not wheel._slots

    asyncio.run(scenario())
