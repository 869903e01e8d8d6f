"""Limits the work of a training.

`effort` is a number of seconds of two ordinary cores, so that the result does not depend on the machine; `budget` is in
seconds of this machine.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|min)?")
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600}

SMALL, MORE = 500, 250
"""The allowance for up to 500 images; each further 250 images add the same amount."""
ALLOWANCES = {"fast": 8.0, "balanced": 60.0, "best": 400.0}
LARGEST_FACTOR = 12
EFFORTS = tuple(ALLOWANCES)


def seconds_of(duration: Any) -> float | None:
    """`60s`, `10m`, `1h`, or a number of seconds; None when it is something else."""
    if isinstance(duration, str):
        match = _DURATION.fullmatch(duration.strip())
        duration = float(match[1]) * _UNITS[match[2] or "s"] if match else None
    if not isinstance(duration, (int, float)) or isinstance(duration, bool):
        return None
    return float(duration) if 0 < duration <= sys.float_info.max else None


def allowance(parameters: Mapping[str, Any], images: int) -> float:
    """Seconds of two ordinary cores for candidates, if there is no budget."""
    factor = min(1.0 + max(0, images - SMALL) / MORE, LARGEST_FACTOR)
    return float(ALLOWANCES[parameters["effort"]] * factor)
