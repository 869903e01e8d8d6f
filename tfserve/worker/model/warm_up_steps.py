"""The steps of a warm-up: each is reported, and none may hang."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Collection, Iterator

from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import WarmUpStep

STEP_SHARE = 1 / 4
"""The share of a computation's time limit that recorded requests and batches may take: a slow model should serve soon,
and nothing of this may be taken for a hang."""
ALL = "all"
"""Skips every step: nothing is computed before the first request."""


class Steps:
    """The steps of a warm-up, each reported before it begins, so that the next process skips one that killed this one.

    `skip` are those that earlier processes did not survive.
    """

    def __init__(self, connection: BlockingConnection, *, limit_s: float, skip: Collection[str]) -> None:
        self._connection = connection
        self._limit_s = limit_s
        self._skip = skip
        self._timer: threading.Timer | None = None
        self._step = ""

    def may(self, step: str) -> bool:
        return step not in self._skip and ALL not in self._skip

    @property
    def long_s(self) -> float:
        """What several computations of a step may take together."""
        return self._limit_s * STEP_SHARE

    @contextlib.contextmanager
    def begin(self, step: str, *, is_serving: bool = False) -> Iterator[None]:
        """Runs a step. A computation that does not finish within the limit ends the process.

        Once it serves, the process has another watchdog, so that no step ends it that only takes long.
        """
        self._connection.notify(WarmUpStep(step=step))
        self._step = step
        if not is_serving:
            self._start_timer()
        try:
            yield
        finally:
            self._cancel_timer()
            self._connection.notify(WarmUpStep(step=step, has_ended=True))

    def next_computation(self) -> None:
        """The next computation of the current step has the whole limit."""
        if self._timer is not None:
            self._cancel_timer()
            self._start_timer()

    def _start_timer(self) -> None:
        self._timer = threading.Timer(self._limit_s, self._give_up, [self._step])
        self._timer.daemon = True
        self._timer.start()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _give_up(self, step: str) -> None:
        problem = f"it did not finish within {self._limit_s:g} s"
        self._connection.notify(WarmUpStep(step=step, problem=problem))
        os.write(2, f"The warm-up with {step} was abandoned: {problem}.\n".encode())
        os._exit(os.EX_SOFTWARE)
