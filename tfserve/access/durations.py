"""Durations as people write them: `90d`, `12h`, `30m`, `45s`."""

from __future__ import annotations

import re

from tfserve.errors import Invalid

_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
MAX_S = 100 * 366 * 86_400


def seconds(text: str, field: str) -> int:
    """Raises `Invalid`."""
    match = _DURATION.fullmatch(text.strip())
    found = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < found <= MAX_S:
        raise Invalid(f"{field} must be a duration such as 90d, 12h, 30m or 45s, got {text[:40]!r}", field=field)
    return found
