"""Interrupts a running script with a KeyboardInterrupt, `Interrupted`, raised only in its own code.

The thread that receives messages expects a job before it is queued, so that an interrupt which overtakes the job in
the queue is not lost. The thread that runs the job starts and ends it. In between, an interrupt hits that thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from tfserve.tensors.json_values import Interrupted

T = TypeVar("T")

Key = tuple[str, int]
"""Workspace and job number."""


class Interrupts:
    """The jobs in this worker, and which of them should stop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected: set[Key] = set()
        self._pending: set[Key] = set()
        self._interrupted: set[Key] = set()
        self._strikes: dict[Key, Callable[[], None]] = {}

    def expect(self, key: Key) -> None:
        with self._lock:
            self._expected.add(key)

    def interrupt(self, key: Key) -> None:
        """Stops the job if it is queued or running; does nothing if it has ended."""
        with self._lock:
            if key in self._expected:
                self._pending.add(key)
                self._interrupted.add(key)
                self._strikes.get(key, _nothing)()

    def interrupt_all(self, workspace: str) -> None:
        """Stops all jobs of a workspace, including queued ones."""
        with self._lock:
            keys = [key for key in self._expected if key[0] == workspace]
        for key in keys:
            self.interrupt(key)

    def start(self, key: Key, strike: Callable[[], None]) -> None:
        """Enables interrupts. One that arrived earlier has to be taken."""
        with self._lock:
            self._strikes[key] = strike

    def was_interrupted(self, key: Key) -> bool:
        """Whether the job has been interrupted at any time before its end."""
        return key in self._interrupted

    def take(self, key: Key) -> bool:
        """Whether the job should stop; true only once. Takes no lock, because signal handlers call it."""
        if key not in self._pending:
            return False
        self._pending.discard(key)
        return True

    def pause(self, key: Key, calm: Callable[[], None]) -> None:
        """Disables interrupts until the next `start`; `calm` cancels one that is pending."""
        with self._lock:
            self._strikes.pop(key, None)
            self._pending.discard(key)
            calm()

    def end(self, key: Key) -> None:
        """Marks the job as ended: interrupts for it are ignored."""
        with self._lock:
            self._expected.discard(key)
            self._pending.discard(key)
            self._interrupted.discard(key)
            self._strikes.pop(key, None)


class MainThread:
    """Runs code so that an interrupt raises `Interrupted` in it. For the main thread only."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._ident = threading.get_ident()
        self._armed = False
        self._key: Key | None = None
        self.restore()

    def restore(self) -> None:
        """Restores SIGINT after a script has changed its handler or blocked it."""
        signal.signal(signal.SIGINT, self._on_sigint)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def call(self, key: Key, function: Callable[[], T]) -> T:
        """`function()`, or `Interrupted`, at once if the job was interrupted before it began."""
        self._key = key
        self._interrupts.start(key, self._strike)
        try:
            self._armed = True
            if self._interrupts.take(key):
                self._armed = False
                raise Interrupted
            return function()
        finally:
            self._armed = False

    def finish(self, key: Key) -> None:
        self._interrupts.end(key)
        self._key = None

    def _strike(self) -> None:
        signal.pthread_kill(self._ident, signal.SIGINT)

    def _on_sigint(self, *_: Any) -> None:
        if not self._armed:
            return
        if self._key is not None and self._interrupts.take(self._key):
            # Once is enough: a second signal must not hit the code that is already leaving.
            self._armed = False
            raise Interrupted
        raise KeyboardInterrupt  # a script sent the signal to itself


class ScriptThread:
    """Runs code in a thread that is not the main one, so that an interrupt raises `Interrupted` in it.

    It is raised between two bytecode instructions, so a call that hangs in C continues until it returns.
    """

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._ident = ctypes.c_ulong(threading.get_ident())
        self._is_struck = False

    def call(self, key: Key, function: Callable[[], T]) -> T:
        """`function()`, or `Interrupted`, at once if the job was interrupted before it began."""
        try:
            self._interrupts.start(key, self._strike)
            if self._interrupts.take(key):
                raise Interrupted
            return function()
        finally:
            self._interrupts.pause(key, self._calm)

    def finish(self, key: Key) -> None:
        """Pauses again, in case an interrupt hit just when `call` was about to pause."""
        while True:
            # Otherwise it could hit later, in the middle of writing a response.
            with contextlib.suppress(Interrupted):
                self._interrupts.pause(key, self._calm)
                self._interrupts.end(key)
                return

    def _strike(self) -> None:
        self._is_struck = True
        ctypes.pythonapi.PyThreadState_SetAsyncExc(self._ident, ctypes.py_object(Interrupted))

    def _calm(self) -> None:
        """Lets an interrupt hit here that has not hit yet.

        Taking it back would leave CPython 3.11 with a note that one is waiting: the next function that a script traces,
        as debuggers do, would never begin.
        """
        if not self._is_struck:
            return
        with contextlib.suppress(Interrupted):
            self._strike()  # in place of the earlier one, which may have hit already
            while True:
                pass
        self._is_struck = False


def _nothing() -> None:
    pass
