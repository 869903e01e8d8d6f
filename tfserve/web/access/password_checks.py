"""Limits how many passwords are checked: a check takes a good part of a second of a processor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import NamedTuple, TypeVar

from tfserve.access.principals import ADDRESS
from tfserve.errors import Overloaded
from tfserve.web.access.audit_log import AuditLog
from tfserve.web.access.failed_attempts import FREE, FailedAttempts, network_of

T = TypeVar("T")

MAX_WAITING = 50


class TooManyLogIns(Overloaded):
    """{reason} Try again in 5 seconds."""


class _LogIn(NamedTuple):
    """One that waits for its turn."""

    address: str
    turn: asyncio.Future[None]


class PasswordChecks:
    """One check at a time. The address with the fewest recent failures is next, so guesses don't keep others waiting.

    An address whose log-ins have failed may try again only after a delay. Nothing waits for its end: until then, its
    log-ins are refused without a check.
    """

    def __init__(self, audit: AuditLog) -> None:
        self._failures = FailedAttempts(audit)
        self._thread = ThreadPoolExecutor(1, "password")
        self._waiting: list[_LogIn] = []
        self._running: _LogIn | None = None

    async def run(self, check: Callable[[], T | None]) -> T | None:
        """The result of `check`, which runs in a thread. None is a failure, which is recorded.

        A caller that is cancelled changes nothing: a client could otherwise disconnect to leave no trace of its guess.

        Raises `TooManyLogIns` without a check.
        """
        log_in = self._admitted(network_of(ADDRESS.get()))
        task = asyncio.create_task(self._checked(log_in, check))
        task.add_done_callback(_retrieve)
        if self._running is None:
            self._start_next()
        return await asyncio.shield(task)

    def _admitted(self, address: str) -> _LogIn:
        failures = self._failures.in_a_row(address)
        if self._failures.delay_left_s(address) > 0:
            raise TooManyLogIns(reason=f"{failures} log-ins from your address have failed.")
        running = [] if self._running is None else [self._running]
        same = sum(each.address == address for each in (*running, *self._waiting))
        if same >= max(1, FREE - failures):
            raise TooManyLogIns(reason=f"Log-ins from your address that wait for the check of a password: {same}.")
        if len(self._waiting) >= MAX_WAITING:
            self._make_room(failures)
        log_in = _LogIn(address, asyncio.get_running_loop().create_future())
        self._waiting.append(log_in)
        return log_in

    def _make_room(self, failures: int) -> None:
        """Refuses the log-in of the address with the most failures, which may be the new one."""
        full = TooManyLogIns(reason=f"Log-ins that wait for the check of a password: {MAX_WAITING}.")
        last = max(reversed(self._waiting), key=self._failures_of)
        if self._failures_of(last) <= failures:
            raise full
        self._waiting.remove(last)
        if not last.turn.done():
            last.turn.set_exception(full)

    async def _checked(self, log_in: _LogIn, check: Callable[[], T | None]) -> T | None:
        await log_in.turn
        try:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._thread, copy_context().run, check)
            if found is None:
                self._failures.record("wrong password", log_in.address)
            return found
        finally:
            self._start_next()

    def _start_next(self) -> None:
        """Of those with the fewest failures, the one that has waited longest."""
        self._running = following = min(self._waiting, key=self._failures_of, default=None)
        if following is not None:
            self._waiting.remove(following)
            if not following.turn.done():  # cancelled when the server stops
                following.turn.set_result(None)

    def _failures_of(self, log_in: _LogIn) -> int:
        return self._failures.in_a_row(log_in.address)


def _retrieve(task: asyncio.Task[T]) -> None:
    """asyncio logs errors that were never retrieved, and the caller may be gone."""
    if not task.cancelled():
        task.exception()
