"""Runs a coroutine without a task: at once, from where it is called, up to where it has to wait.

A task starts in the next turn of the event loop, and continues in the next turn after each wait. That takes as long as
a tenth of a small prediction, and lets its response wait for unrelated work.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class EagerCall(Generic[T]):
    """A coroutine in a context of its own. `done` receives its result. If it raises, `failed` is called first.

    Only code that needs no current task may run in it: whatever uses `asyncio.timeout` must be awaited as a task.
    """

    __slots__ = ("_awaited", "_context", "_coroutine", "_done", "_failed")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, T],
        context: Context,
        *,
        done: Callable[[T], object],
        failed: Callable[[], object],
    ) -> None:
        self._failed = failed
        self._coroutine = coroutine
        self._context = context
        self._done = done
        self._awaited: Future[Any] | None = None

    def start(self) -> None:
        self._context.run(self._step)

    def cancel(self) -> None:
        """Raises `CancelledError` where the coroutine waits."""
        if self._awaited is not None:
            self._awaited.cancel()

    def _step(self, _: Future[Any] | None = None) -> None:
        self._awaited = None
        try:
            awaited = self._coroutine.send(None)  # which raises the exception of a future that failed
        except StopIteration as end:
            self._done(end.value)
            return
        except BaseException:
            self._failed()
            raise
        awaited._asyncio_future_blocking = False  # as a task does, to show that it was awaited and not yielded
        self._awaited = awaited
        awaited.add_done_callback(self._step, context=self._context)
