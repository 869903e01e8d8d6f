"""Wakes a sleeping model, once for all requests that wait for it."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tfserve.errors import TFserveError, TimedOut, Unavailable
from tfserve.ipc.connections import ConnectionLost
from tfserve.web.predictions.request import CallerGone, Request

SLEEPING = "sleeping"
"""The state of a model whose processes start with the next request."""

Wake = Callable[[str, bool], Awaitable[None]]
"""Asks the supervisor for a process of a sleeping model, or for TensorFlow's; returns when it can be reached."""


class PredictionTimedOut(TimedOut):
    """The prediction was not answered within {timeout_s} s; if it had not begun, it was dropped."""

    @classmethod
    def after(cls, timeout_s: float) -> PredictionTimedOut:
        return cls(timeout_s=f"{max(timeout_s, 0.001):g}")


class ModelQueueFull(Unavailable):
    """{limit} predictions of this model wait or run, as many as it may have (max_predictions). Try again later."""


class Waking:
    """What the requests for one sleeping model wait for."""

    def __init__(self, wake: Callable[[], Awaitable[None]]) -> None:
        """`wake` asks the supervisor, and raises the cause if the model can't be woken."""
        self._wake = wake
        self._woken: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def wait(self, request: Request, timeout_s: float) -> Request:
        """Returns the request with what is left of `timeout_s` when the model is awake.

        Raises the cause if it can't be woken, `PredictionTimedOut`, `CallerGone`.
        """
        started_at = time.monotonic()
        waiting = asyncio.ensure_future(asyncio.shield(self._begin()))
        if request.caller is not None:
            request.caller.on_gone = waiting.cancel
        try:
            async with asyncio.timeout(timeout_s):
                await waiting
        except TimeoutError:
            raise PredictionTimedOut.after(timeout_s) from None
        except asyncio.CancelledError:
            if request.caller is not None and request.caller.is_gone:
                raise CallerGone from None
            raise
        return dataclasses.replace(request, timeout_s=max(0.0, timeout_s - (time.monotonic() - started_at)))

    def announced(self) -> None:
        """The model does not sleep now. The requests that waited for it are sent before it could sleep again."""
        if self._woken is not None:
            self._woken.set_result(None)
            self._woken = None

    def _begin(self) -> asyncio.Future[None]:
        if self._woken is None:
            self._woken = asyncio.get_running_loop().create_future()
            self._task = asyncio.get_running_loop().create_task(self._ask(self._woken))
        return self._woken

    async def _ask(self, woken: asyncio.Future[None]) -> None:
        """The announcement comes with the reply, or is about to: only a failure is passed on."""
        try:
            await self._wake()
        except TFserveError as error:
            self._failed(woken, error)
        except ConnectionLost:
            self._failed(woken, Unavailable("The model can't be woken: the server is stopping."))

    def _failed(self, woken: asyncio.Future[None], error: TFserveError) -> None:
        if self._woken is woken:
            self._woken = None
            woken.set_exception(error)
            woken.exception()  # marks it as retrieved, in case all clients have gone


def expire(reply: asyncio.Future[Any], timeout_s: float) -> None:
    """Ends the wait for a response, unless it has come."""
    if not reply.done():
        reply.set_exception(PredictionTimedOut.after(timeout_s))
