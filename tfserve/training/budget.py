"""How much work a training may take.

`effort` is a number of seconds of two ordinary cores, so that the result does not depend on the machine; `budget` is in
seconds of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|min)?\s*")
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600}

SMALL, MORE = 500, 250
"""Up to 500 images the allowance is the same; it grows by as much for each further 250."""
ALLOWANCES = {"fast": 8.0, "balanced": 60.0, "best": 400.0}
LARGEST_FACTOR = 12
EFFORTS = tuple(ALLOWANCES)


def seconds_of(duration: Any) -> float | None:
    """`60s`, `10m`, `1h`, or a number of seconds; None when it is something else."""
    if isinstance(duration, (int, float)) and not isinstance(duration, bool):
        return float(duration) if duration > 0 else None
    match = _DURATION.fullmatch(duration) if isinstance(duration, str) else None
    return float(match[1]) * _UNITS[match[2] or "s"] or None if match else None


def allowance(parameters: Mapping[str, Any], images: int) -> float:
    """Seconds of two ordinary cores for candidates, if there is no budget."""
    factor = min(1.0 + max(0, images - SMALL) / MORE, LARGEST_FACTOR)
    return float(ALLOWANCES[parameters["effort"]] * factor)
