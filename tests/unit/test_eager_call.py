"""A coroutine that runs without a task."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from tfserve.web.http.eager_call import EagerCall

NAME: ContextVar[str] = ContextVar("name", default="outside")


def start(coroutine: Any) -> tuple[EagerCall[Any], asyncio.Future[Any]]:
    result = asyncio.get_running_loop().create_future()
    call = EagerCall(coroutine, copy_context(), done=result.set_result, failed=result.cancel)
    call.start()
    return call, result


def test_a_coroutine_runs_at_once_up_to_where_it_waits_and_keeps_its_context() -> None:
    async def scenario() -> None:
        steps: list[str] = []
        gate = asyncio.get_running_loop().create_future()

        async def work() -> str:
            NAME.set("inside")
            steps.append(NAME.get())
            steps.append(await gate)
            return NAME.get()

        _, result = start(work())
        assert steps == ["inside"]
        assert NAME.get() == "outside"
        gate.set_result("gate")
        assert await result == "inside"
        assert steps == ["inside", "gate"]
        assert NAME.get() == "outside"

    asyncio.run(scenario())


def test_errors_and_cancellation_are_raised_where_it_waits() -> None:
    async def scenario() -> None:
        async def work(gate: asyncio.Future[None]) -> str:
            try:
                await gate
            except (ValueError, asyncio.CancelledError) as error:
                return type(error).__name__
            return "nothing"

        loop = asyncio.get_running_loop()
        failing = loop.create_future()
        _, failed = start(work(failing))
        failing.set_exception(ValueError())
        call, cancelled = start(work(loop.create_future()))
        call.cancel()
        assert [await failed, await cancelled] == ["ValueError", "CancelledError"]

    asyncio.run(scenario())


def test_it_may_wait_for_tasks_and_threads() -> None:
    async def scenario() -> None:
        async def with_timeout() -> int:
            async with asyncio.timeout(5):
                return await asyncio.to_thread(lambda: 41)

        async def work() -> int:
            return await asyncio.create_task(with_timeout()) + 1

        _, result = start(work())
        assert await result == 42

    asyncio.run(scenario())


def test_whoever_started_it_is_told_of_an_exception() -> None:
    async def scenario() -> None:
        async def work() -> None:
            raise RuntimeError("a bug")

        result = asyncio.get_running_loop().create_future()
        call = EagerCall(work(), copy_context(), done=result.set_result, failed=result.cancel)
        with pytest.raises(RuntimeError):
            call.start()
        assert result.cancelled()

    asyncio.run(scenario())
