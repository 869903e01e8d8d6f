"""The steps of a warm-up, reported before each begins: one that kills or hangs the process is skipped by the next."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Collection, Iterator

from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import WarmUpStep

TIMING = "the timing of the model"
ALL = "all"
"""Skip every step: nothing is computed before the first request."""


class Steps:
    """Runs the steps of one process. `skip` are those that processes before it did not survive."""

    def __init__(self, connection: BlockingConnection, *, limit_s: float, skip: Collection[str]) -> None:
        self._connection = connection
        self._limit_s = limit_s
        self._skip = skip

    def may(self, step: str) -> bool:
        return step not in self._skip and ALL not in self._skip

    @contextlib.contextmanager
    def begin(self, step: str) -> Iterator[None]:
        """Around a step. A computation that does not end within the limit ends the process."""
        self._connection.tell(WarmUpStep(step=step))
        timer = threading.Timer(self._limit_s, self._give_up, [step])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self._connection.tell(WarmUpStep(step=step, has_ended=True))

    def _give_up(self, step: str) -> None:
        problem = f"it did not end within {self._limit_s:g} s"
        self._connection.tell(WarmUpStep(step=step, problem=problem))
        os.write(2, f"The warm-up with {step} was given up: {problem}.\n".encode())
        os._exit(os.EX_SOFTWARE)
