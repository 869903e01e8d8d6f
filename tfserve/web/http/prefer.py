"""The Prefer header (RFC 7240): whether a client wants its prediction deferred.

Prefer: respond-async             respond at once with a job
Prefer: respond-async, wait=5     respond with the result if there is one within 5 seconds, otherwise with a job
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

MAX_WAIT_S = 60.0
_WAIT = re.compile(r'wait\s*=\s*"?(\d{1,9})"?')


class Deferral(NamedTuple):
    """A prediction is to be deferred. `applied` is the header Preference-Applied of the response."""

    wait_s: float
    applied: bytes


def read_deferral(headers: Iterable[tuple[bytes, bytes]]) -> Deferral | None:
    """None without `respond-async`. Other preferences are ignored, as the RFC requires."""
    text = ""
    for name, value in headers:
        if name == b"prefer":  # may be sent more than once
            text += "," + value.decode("latin-1").lower()
    if not text:
        return None
    preferences = [each.partition(";")[0].strip() for each in text.split(",")]
    if "respond-async" not in preferences:
        return None
    for each in preferences:
        if (found := _WAIT.fullmatch(each)) is not None:
            wait_s = min(float(found[1]), MAX_WAIT_S)
            return Deferral(wait_s, f"respond-async, wait={wait_s:g}".encode())
    return Deferral(0.0, b"respond-async")
