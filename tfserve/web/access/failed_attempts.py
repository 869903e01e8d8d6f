"""Slows down clients that guess tokens or passwords: the more failures from an address, the later the response."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict

from tfserve.access.principals import ADDRESS
from tfserve.errors import Kind, Overloaded
from tfserve.web.access.audit_log import AuditLog

log = logging.getLogger(__name__)

FREE = 5
"""Failures that are answered at once: people mistype, and programs are restarted with an old token."""
FORGET_S = 60.0
FIRST_DELAY_S, MAX_DELAY_S = 0.25, 5.0
MAX_ADDRESSES = 10_000
MAX_WAITING = 100
"""Failures whose responses wait, of all addresses. More are refused at once, because each holds a connection."""


class TooManyFailures(Overloaded):
    """Too many failed log-ins. Wait a minute, then try again with a valid token or password."""


class FailedAttempts:
    """The failures of each client address."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._by_address: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._waiting = 0

    async def note(self, what: str) -> None:
        """Records and logs a failure, and returns when its response may be sent. Raises `TooManyFailures`."""
        address = ADDRESS.get()
        count = self._count(address, time.monotonic())
        self._audit.write(what.replace(" ", "_"), Kind.UNAUTHENTICATED, who="unknown")
        log.warning("%s from %s (%d in a row)", what, address, count)
        delay_s = delay_after(count)
        if not delay_s:
            return
        if self._waiting >= MAX_WAITING:
            raise TooManyFailures
        self._waiting += 1
        try:
            await asyncio.sleep(delay_s)
        finally:
            self._waiting -= 1

    def _count(self, address: str, now: float) -> int:
        count, last = self._by_address.pop(address, (0, now))
        count = 1 if now - last > FORGET_S else count + 1
        self._by_address[address] = count, now
        if len(self._by_address) > MAX_ADDRESSES:
            self._by_address.popitem(last=False)
        return count


def delay_after(failures: int) -> float:
    """Seconds before the response to the last of this number of failures in a row."""
    if failures <= FREE:
        return 0.0
    return float(min(FIRST_DELAY_S * 2 ** min(failures - FREE - 1, 10), MAX_DELAY_S))
