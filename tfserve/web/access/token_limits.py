"""Limits of each token: requests per second, and bytes of requests in progress in one web process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from tfserve.access.principals import ANONYMOUS, Principal
from tfserve.config import Settings
from tfserve.errors import Overloaded
from tfserve.web.access.allowances import FILE, Allowance, Allowances, OwnAllowances, SharedAllowances

log = logging.getLogger(__name__)

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
        self._per_second = settings.token_requests_per_s
        self._limit = self._per_second
        self._burst = max(self._per_second, 1.0)
        self._max_bytes = settings.token_bytes_in_flight
        self._clock = clock
        self._allowances: Allowances = OwnAllowances()
        if self._per_second and settings.web_processes > 1:
            self._share(settings)
        self._bytes: dict[str, int] = {}

    def begin(self, principal: Principal, length: int | None) -> int:
        """Admits a request with a body of this length. Returns what to pass to `end`, if it is not 0.

        Raises `Overloaded`.
        """
        # Requests without a token share one principal: one client must not use up what the probes of health need.
        # Their bytes are limited together nevertheless, to limit the memory. Probes and log-ins are too small to count.
        if self._per_second and principal is not ANONYMOUS:
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
        left, since = self._allowances.read(principal.owner) or (self._burst, now)
        left = min(self._burst, left + (now - since) * self._per_second)
        self._allowances.write(principal.owner, Allowance(left - 1 if left >= 1 else left, now))
        if left < 1:
            raise TooManyPerSecond(name=principal.name, limit=self._limit)

    def _share(self, settings: Settings) -> None:
        """Counts together with the other web processes; where that is impossible, each has a share of the limit."""
        try:
            file = settings.data_path / FILE
            self._allowances = SharedAllowances(file, self._burst / self._per_second, self._clock)
        except OSError as error:
            log.warning("each web process counts the requests of tokens for itself: %s", error)
            self._per_second /= settings.web_processes
            self._burst = max(self._per_second, 1.0)
