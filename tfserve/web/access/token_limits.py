"""Limits of each token in one web process: requests per second, and bytes of requests in progress."""

from __future__ import annotations

import time
from collections.abc import Callable

from tfserve.access.principals import Principal
from tfserve.config import Settings
from tfserve.errors import Overloaded

UNKNOWN_LENGTH = 1024 * 1024
"""What a chunked body counts for, whose length is not known yet."""
COUNTED_BYTES = 16 * 1024
"""Smaller bodies are not counted: max_requests limits how many there can be."""


class TooManyPerSecond(Overloaded):
    """The token {name!r} sent more than {limit:g} requests per second (token_requests_per_s). Send them more slowly."""


class TooManyBytes(Overloaded):
    """The requests of the token {name!r} that are in progress have more than {limit} bytes together \
(token_bytes_in_flight). Wait for the responses to some of them."""


class TokenLimits:
    """What the tokens have used. Without limits, or without authentication, nothing is counted."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = settings.token_requests_per_s / settings.web_processes
        self._max_bytes = settings.token_bytes_in_flight
        self._clock = clock
        #: requests that a token may still send now, and when that was computed
        self._allowance: dict[str, tuple[float, float]] = {}
        self._bytes: dict[str, int] = {}

    def begin(self, principal: Principal, length: int | None) -> int:
        """Admits a request with a body of this length. Returns what to pass to `end`, if it is not 0.

        Raises `Overloaded`.
        """
        if self._per_second:
            self._take(principal)
        size = UNKNOWN_LENGTH if length is None else length
        if size < COUNTED_BYTES or not self._max_bytes:
            return 0
        used = self._bytes.get(principal.owner, 0)
        # One request may always proceed, whatever its size: max_body_bytes limits it.
        if used and used + size > self._max_bytes:
            raise TooManyBytes(name=principal.name, limit=self._max_bytes)
        self._bytes[principal.owner] = used + size
        return size

    def end(self, principal: Principal, size: int) -> None:
        left = self._bytes[principal.owner] - size
        if left:
            self._bytes[principal.owner] = left
        else:
            del self._bytes[principal.owner]

    def _take(self, principal: Principal) -> None:
        """A burst of up to a second's requests is allowed."""
        now = self._clock()
        burst = max(self._per_second, 1.0)
        left, since = self._allowance.get(principal.owner, (burst, now))
        left = min(burst, left + (now - since) * self._per_second)
        self._allowance[principal.owner] = (left - 1 if left >= 1 else left), now
        if left < 1:
            raise TooManyPerSecond(name=principal.name, limit=self._per_second)
