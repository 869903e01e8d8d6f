"""A request is answered although what it waits for is cancelled or never comes."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tfserve.errors import Unavailable
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import Ping
from tfserve.web.predictions.request import PredictionRequest
from tfserve.web.predictions.waking import PredictionTimedOut, Waking


def test_a_handler_that_waits_for_a_cancelled_task_responds() -> None:
    async def wait_for_cancelled(_: Any) -> None:
        task = asyncio.ensure_future(asyncio.Event().wait())
        asyncio.get_running_loop().call_soon(task.cancel)
        await task

    async def work() -> None:
        ours, theirs = socket.socketpair()
        server = await Connection.open(theirs, wait_for_cancelled)
        client = await Connection.open(ours)
        async with asyncio.timeout(10):
            with pytest.raises(Unavailable, match=r"was cancelled\. Send it again"):
                await client.ask(Ping())
        client.close()
        await server.lost

    asyncio.run(work())


def test_the_wait_for_tensorflow_ends_with_the_reply_or_the_time() -> None:
    async def work() -> None:
        request = PredictionRequest({})
        never = Waking(lambda: asyncio.sleep(3600), ends_with_reply=True)
        with pytest.raises(PredictionTimedOut):
            await never.wait(request, 0.02)
        at_once = Waking(lambda: asyncio.sleep(0), ends_with_reply=True)
        async with asyncio.timeout(10):
            left = await at_once.wait(request, 60.0)
        assert left.timeout_s is not None
        assert 50 < left.timeout_s <= 60

    asyncio.run(work())
