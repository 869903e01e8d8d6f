"""Numbers in text that people and programs write: ASCII digits, as in JSON.

Python's `int` and `float` accept more, and so turn what is probably a mistake into a number: `1_000`, `١`, `nan`.
"""

from __future__ import annotations

import math
import re

_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,400}\s*", re.ASCII)
_DECIMAL = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", re.ASCII)


def integer(text: str) -> int | None:
    """None for text that is not an integer, or one that is too long for any type."""
    return int(text) if _INTEGER.fullmatch(text) else None


def finite(text: str) -> float | None:
    """None for text that is not a number, or one that is too large for a float."""
    number = float(text) if _DECIMAL.fullmatch(text) else math.inf
    return number if math.isfinite(number) else None
