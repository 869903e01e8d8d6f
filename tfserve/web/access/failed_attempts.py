"""Slows down clients that guess tokens or passwords: the more failures from an address, the later the response."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections import Counter, OrderedDict
from contextvars import Context
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
MAX_RECORDS, RECORDS_S = 100, 60.0
"""Failures of all addresses together that are recorded within a minute. One more line has the number of the others."""
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
        self._records = _Records(audit)
        self._by_address: OrderedDict[str, _Failures] = OrderedDict()
        self._waiting: Counter[str] = Counter()

    async def note(self, what: str) -> None:
        """Records and logs a failure, and returns when its response may be sent. Raises `TooManyFailures`."""
        address = network_of(ADDRESS.get())
        delay_s = delay_after(self.record(what, address))
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

    def in_a_row(self, address: str) -> int:
        """Failures of this address, with less than a minute between them."""
        known = self._by_address.get(address)
        return 0 if known is None or time.monotonic() - known.last_at > FORGET_S else known.number

    def delay_left_s(self, address: str) -> float:
        """How long ago the last failure should be before the next attempt, minus how long ago it is."""
        known = self._by_address.get(address)
        return 0.0 if known is None else known.last_at + delay_after(known.number) - time.monotonic()

    def record(self, what: str, address: str) -> int:
        """Records and logs a failure of the current request; returns how many there are in a row."""
        now, count = time.monotonic(), self.in_a_row(address) + 1
        known = self._by_address.pop(address, None)
        recorded_at = -RECORD_EVERY_S if known is None else known.recorded_at
        if count <= RECORD_ALL or now - recorded_at >= RECORD_EVERY_S:
            recorded_at = now
            self._records.add(what, count, now)
        self._by_address[address] = _Failures(count, now, recorded_at)
        if len(self._by_address) > MAX_ADDRESSES:
            self._by_address.popitem(last=False)
        return count


class _Records:
    """The lines about failures of all addresses. A client with many addresses must not fill the logs either."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._since = -RECORDS_S
        self._number = 0
        self._left_out = 0

    def add(self, what: str, count: int, now: float) -> None:
        if now - self._since >= RECORDS_S:
            self._since, self._number = now, 0
        if self._number < MAX_RECORDS:
            self._number += 1
            self._write(what, f"{count} in a row" if count > RECORD_ALL else "")
            log.warning("%s from %s (%d in a row)", what, ADDRESS.get(), count)
            return
        self._left_out += 1
        if self._left_out == 1:
            wait_s = self._since + RECORDS_S - now
            # Not in the context of this request: the line is about those of many clients.
            asyncio.get_running_loop().call_later(wait_s, self._summarize, what, context=Context())

    def _summarize(self, what: str) -> None:
        number, self._left_out = self._left_out, 0
        self._write(what, f"{number} more, from any address, are not recorded")
        log.warning("%s: %d more, from any address, are not logged", what, number)

    def _write(self, what: str, error: str) -> None:
        self._audit.write(what.replace(" ", "_"), Kind.UNAUTHENTICATED, who="unknown", error=error)


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
