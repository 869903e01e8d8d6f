"""The headers with which a client controls how its prediction is scheduled.

Priority: u=0        RFC 9218: 0 is first, 7 is last, 3 is the default. Invalid values are ignored, as the RFC requires.
Request-Timeout: 0.5 seconds after which the client no longer waits
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tfserve import written_numbers
from tfserve.errors import Invalid
from tfserve.ipc.predictions import DEFAULT_URGENCY

_URGENCY = re.compile(rb"(?:^|[,\s])u=([0-7])\s*(?:[,;]|$)")


def read_priority_headers(headers: Mapping[bytes, bytes]) -> tuple[int, float | None]:
    """Urgency, and the timeout in seconds. Raises `Invalid`."""
    priority, timeout = headers.get(b"priority"), headers.get(b"request-timeout")
    return (
        DEFAULT_URGENCY if priority is None else _urgency(priority),
        None if timeout is None else _seconds(timeout),
    )


def _urgency(value: bytes) -> int:
    found = _URGENCY.search(value)
    return int(found[1]) if found else DEFAULT_URGENCY


def _seconds(value: bytes) -> float:
    seconds = written_numbers.finite(value.decode("latin-1"))
    if seconds is None or seconds <= 0:
        text = value.decode("latin-1")[:50]
        raise Invalid(f"The header Request-Timeout must be in seconds, such as 0.5 or 30; got {text!r}.")
    return seconds
