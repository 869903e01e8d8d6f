"""Slows down clients that guess tokens or passwords: the more failures from an address, the later the response."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections import Counter, OrderedDict
from typing import NamedTuple

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
MAX_WAITING_OF_ADDRESS = 10
"""So that no address takes the places of all others."""
RECORD_ALL, RECORD_EVERY_S = 20, 10.0
"""After this number of failures in a row, only one in ten seconds is recorded: guesses must not fill the logs, and
thereby remove what others did."""
IPV6_NETWORK_BITS = 64
"""A client with an IPv6 address usually has all addresses of its network."""


class _Failures(NamedTuple):
    """Of one address."""

    number: int
    last_at: float
    recorded_at: float


class TooManyFailures(Overloaded):
    """Too many failed log-ins. Wait a minute, then try again with a valid token or password."""


class FailedAttempts:
    """The failures of each client address."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._by_address: OrderedDict[str, _Failures] = OrderedDict()
        self._waiting: Counter[str] = Counter()

    async def note(self, what: str) -> None:
        """Records and logs a failure, and returns when its response may be sent. Raises `TooManyFailures`."""
        address = network_of(ADDRESS.get())
        delay_s = delay_after(self._count(what, address, time.monotonic()))
        if not delay_s:
            return
        if self._waiting[address] >= MAX_WAITING_OF_ADDRESS or self._waiting.total() >= MAX_WAITING:
            raise TooManyFailures
        self._waiting[address] += 1
        try:
            await asyncio.sleep(delay_s)
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]

    def _count(self, what: str, address: str, now: float) -> int:
        """Records the failure; returns how many there are in a row."""
        known = self._by_address.pop(address, None)
        count = 1 if known is None or now - known.last_at > FORGET_S else known.number + 1
        recorded_at = 0.0 if known is None else known.recorded_at
        if count <= RECORD_ALL or now - recorded_at >= RECORD_EVERY_S:
            recorded_at = now
            error = f"{count} in a row" if count > RECORD_ALL else ""
            self._audit.write(what.replace(" ", "_"), Kind.UNAUTHENTICATED, who="unknown", error=error)
            log.warning("%s from %s (%d in a row)", what, ADDRESS.get(), count)
        self._by_address[address] = _Failures(count, now, recorded_at)
        if len(self._by_address) > MAX_ADDRESSES:
            self._by_address.popitem(last=False)
        return count


def network_of(address: str) -> str:
    """What counts as one client."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), IPV6_NETWORK_BITS), strict=False))


def delay_after(failures: int) -> float:
    """Seconds before the response to the last of this number of failures in a row."""
    if failures <= FREE:
        return 0.0
    return float(min(FIRST_DELAY_S * 2 ** min(failures - FREE - 1, 10), MAX_DELAY_S))
