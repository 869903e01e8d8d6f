"""When a request is sent again, and after how long."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from tfserve_client.flows import Request

TRY_LATER = (429, 503)
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""Errors after which the server can't have seen the request."""


@dataclass(frozen=True)
class Retries:
    """At most `attempts` times, after pauses that double from `first_s` to `most_s` seconds.

    A response 429 or 503 with `Retry-After` is retried, as the server has not accepted the request. A request that
    was perhaps received is retried only if it is idempotent. `connecting` limits the attempts while nothing listens
    at the address.
    """

    attempts: int = 3
    connecting: int = 3
    first_s: float = 0.25
    most_s: float = 30.0

    def after_error(self, request: Request, error: httpx.TransportError, attempt: int) -> float | None:
        """Seconds to wait after the failed attempt number `attempt`, from 0. None: give up."""
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return None
        if isinstance(error, NOT_SENT):
            return self._pause(attempt, self.connecting)
        return self._pause(attempt, self.attempts) if request.idempotent else None

    def after_response(self, response: httpx.Response, attempt: int) -> float | None:
        """Seconds to wait before the request is sent again. None: the response is final."""
        if response.status_code not in TRY_LATER or "retry-after" not in response.headers:
            return None
        pause = self._pause(attempt, self.attempts)
        return None if pause is None else min(max(pause, _seconds(response.headers["retry-after"])), self.most_s)

    def _pause(self, attempt: int, attempts: int) -> float | None:
        return min(self.first_s * 2**attempt, self.most_s) if attempt < attempts else None


def _seconds(text: str) -> float:
    """The value of `Retry-After`; 0 for a date, because clocks differ."""
    return float(text) if text.strip().isdigit() else 0.0
