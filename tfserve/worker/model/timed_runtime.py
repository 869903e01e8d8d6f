"""Runs the model for `Computation`, and knows since when each of its calls has run.

Only calls are timed: neither many short computations nor a wait for another thread is a hang.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from tfserve.runtimes.interface import Forwarding, Runtime
from tfserve.tensors.specs import Array


class InTurn:
    """Holds a lock. A thread that takes it again and again lets others have it in between.

    Without this, the thread that releases a lock usually has it again before another one has woken up.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._next = threading.Lock()

    def __enter__(self) -> None:
        if self._next.locked() or not self._lock.acquire(blocking=False):
            with self._next:
                self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @property
    def is_awaited(self) -> bool:
        """Whether a thread waits for the lock, or is about to have it."""
        return self._next.locked()


class CallClock:
    """When the calls of a model began that have not ended. Any thread may ask."""

    def __init__(self) -> None:
        #: by thread
        self.began_ns: dict[int, int] = {}

    @property
    def oldest_ns(self) -> int | None:
        return min(tuple(self.began_ns.values()), default=None)


class TimedRuntime(Forwarding):
    """A runtime each of whose calls is timed, and made while it holds `turn`."""

    def __init__(self, runtime: Runtime, turn: AbstractContextManager[object], clock: CallClock) -> None:
        super().__init__(runtime)
        self._turn = turn
        self._began_ns = clock.began_ns
        self._run = runtime.run

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        thread, began_ns = threading.get_ident(), self._began_ns
        with self._turn:
            began_ns[thread] = time.perf_counter_ns()
            try:
                return self._run(inputs, outputs, signature)
            finally:
                del began_ns[thread]
