"""How a running script is asked to stop: by a KeyboardInterrupt, `Interrupted`, in its own code and nowhere else.

The thread that receives messages expects a job before it is queued, so that an interrupt which overtakes the job in
the queue is not lost. The thread that runs the job starts and ends it. In between, an interrupt strikes that thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from tfserve.json_values import Interrupted

T = TypeVar("T")

Key = tuple[str, int]
"""Workspace and job number."""


class Interrupts:
    """Which jobs are here, and which of them are to stop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected: set[Key] = set()
        self._wanted: set[Key] = set()
        self._asked: set[Key] = set()
        self._strikes: dict[Key, Callable[[], None]] = {}

    def expect(self, key: Key) -> None:
        with self._lock:
            self._expected.add(key)

    def interrupt(self, key: Key) -> None:
        """Stops the job if it is here; does nothing if it has ended."""
        with self._lock:
            if key in self._expected:
                self._wanted.add(key)
                self._asked.add(key)
                self._strikes.get(key, _nothing)()

    def interrupt_all(self, workspace: str) -> None:
        """Stops all that is here of a workspace, also what waits for its turn."""
        with self._lock:
            keys = [key for key in self._expected if key[0] == workspace]
        for key in keys:
            self.interrupt(key)

    def start(self, key: Key, strike: Callable[[], None]) -> None:
        """From now on an interrupt strikes. One that came before has to be taken."""
        with self._lock:
            self._strikes[key] = strike

    def was_asked(self, key: Key) -> bool:
        """Whether the job has been asked to stop at any time before its end."""
        return key in self._asked

    def take(self, key: Key) -> bool:
        """Whether the job is to stop; asks only once. Without the lock, for signal handlers."""
        if key not in self._wanted:
            return False
        self._wanted.discard(key)
        return True

    def pause(self, key: Key, calm: Callable[[], None]) -> None:
        """Until the next `start` no interrupt strikes; `calm` takes back one that is on its way."""
        with self._lock:
            self._strikes.pop(key, None)
            self._wanted.discard(key)
            calm()

    def end(self, key: Key) -> None:
        """The job is over: interrupts for it do nothing any more."""
        with self._lock:
            self._expected.discard(key)
            self._wanted.discard(key)
            self._asked.discard(key)
            self._strikes.pop(key, None)


class MainThread:
    """Runs code so that an interrupt raises `Interrupted` in it. To be used from the main thread only."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._ident = threading.get_ident()
        self._armed = False
        self._key: Key | None = None
        self.restore()

    def restore(self) -> None:
        """Takes SIGINT back from a script that has changed its handler or blocked it."""
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
        raise KeyboardInterrupt  # a script has sent the signal to itself


class ScriptThread:
    """Runs code in a thread that is not the main one, so that an interrupt raises `Interrupted` in it.

    It reaches the thread between two steps of Python code, so what hangs in C goes on until it returns.
    """

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._ident = ctypes.c_ulong(threading.get_ident())

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
        """Pauses again, in case that an interrupt struck just when `call` was about to."""
        while True:
            # Left half done it could strike later, where it would tear an answer in two.
            with contextlib.suppress(Interrupted):
                self._interrupts.pause(key, self._calm)
                self._interrupts.end(key)
                return

    def _strike(self) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(self._ident, ctypes.py_object(Interrupted))

    def _calm(self) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(self._ident, None)


def _nothing() -> None:
    pass
