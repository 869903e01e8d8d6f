"""How a client wants its prediction to be treated, as it says in headers.

Priority: u=0        RFC 9218: 0 is first, 7 is last, 3 is usual. What is no urgency is ignored, as the RFC wants it.
Request-Timeout: 0.5 seconds, after which the client is not interested any more
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from tfserve.errors import Invalid
from tfserve.ipc.predictions import DEFAULT_URGENCY

_URGENCY = re.compile(rb"(?:^|[,\s])u=([0-7])\s*(?:[,;]|$)")


def read_wishes(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, float | None]:
    """Urgency, and the timeout in seconds. Raises `Invalid`."""
    urgency, timeout_s = DEFAULT_URGENCY, None
    for name, value in headers:
        if name == b"priority":
            urgency = _urgency(value)
        elif name == b"request-timeout":
            timeout_s = _seconds(value)
    return urgency, timeout_s


def _urgency(value: bytes) -> int:
    found = _URGENCY.search(value)
    return int(found[1]) if found else DEFAULT_URGENCY


def _seconds(value: bytes) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        text = value.decode("latin-1")[:50]
        raise Invalid(f"The header Request-Timeout takes seconds, such as 0.5 or 30; {text!r} was given.")
    return seconds
