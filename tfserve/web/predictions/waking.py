"""Wakes a sleeping model, once for all requests that wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from tfserve.errors import Internal, TFserveError, TimedOut, Unavailable
from tfserve.ipc.connections import ConnectionLost
from tfserve.web.predictions.request import CallerGone, PredictionRequest

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
    """The requests that wait for one sleeping model."""

    def __init__(self, wake: Callable[[], Awaitable[None]], *, ends_with_reply: bool = False) -> None:
        """`wake` asks the supervisor, and raises the cause if the model can't be woken.

        With `ends_with_reply`, the reply ends the wait even without an announcement: there may be nothing new.
        """
        self._wake = wake
        self._ends_with_reply = ends_with_reply
        self._waiting: set[asyncio.Future[None]] = set()
        #: asks the supervisor for what waits now
        self._asking: asyncio.Task[None] | None = None

    async def wait(self, request: PredictionRequest, timeout_s: float) -> PredictionRequest:
        """Returns the request with what is left of `timeout_s` when the model is awake.

        Raises the cause if it can't be woken, `PredictionTimedOut`, `CallerGone`.
        """
        loop, started_at = asyncio.get_running_loop(), time.monotonic()
        waiting: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(timeout_s, expire, waiting, timeout_s)
        if request.caller is not None:
            request.caller.on_gone = waiting.cancel
        self._waiting.add(waiting)
        if self._asking is None:
            self._asking = loop.create_task(self._ask())
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.cancelled() and request.caller is not None and request.caller.is_gone:
                raise CallerGone from None
            raise
        finally:
            timer.cancel()
            self._waiting.discard(waiting)
        return msgspec.structs.replace(request, timeout_s=max(0.0, timeout_s - (time.monotonic() - started_at)))

    def announced(self) -> None:
        """The model does not sleep now. The requests that waited for it are sent before it could sleep again."""
        self._asking = None  # its reply is not about requests that come when the model sleeps again
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def _ask(self) -> None:
        """The announcement comes with the reply, or is about to: only a failure is passed on."""
        this = asyncio.current_task()
        error: TFserveError | None = Internal("The model could not be woken.")
        try:
            await self._wake()
            error = None
        except TFserveError as refused:
            error = refused
        except ConnectionLost:
            error = Unavailable("The model can't be woken: the server is stopping.")
        finally:
            self._woken(this, error)

    def _woken(self, this: asyncio.Task[Any] | None, error: TFserveError | None) -> None:
        if self._asking is this:
            self._asking = None
            if error is None and self._ends_with_reply:
                self.announced()
            for waiting in self._waiting:
                if error is not None and not waiting.done():
                    waiting.set_exception(error)


def expire(reply: asyncio.Future[Any], timeout_s: float) -> None:
    """Ends the wait for a response, unless it has come."""
    if not reply.done():
        reply.set_exception(PredictionTimedOut.after(timeout_s))
