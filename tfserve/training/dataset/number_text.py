"""Numbers in tables and annotations as programs write them, in many countries with a decimal comma: 0,25."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_WITH_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_DECIMAL = re.compile(r"[+-]?(0,\d+|\d+,(\d\d?|\d{4,}))([eE][+-]?\d+)?")
"""A comma after which there are not exactly three digits, or with only a 0 before it, separates no thousands."""


def finite(text: str) -> float | None:
    """The number; None for an infinite one and for other text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def with_points(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The cells, those with a decimal comma with a point instead.

    `1,234` may be 1234 or 1.234, so it stays unless another cell shows that the comma is a decimal one.
    """
    if not any(_DECIMAL.fullmatch(cell.strip()) for row in rows for cell in row):
        return [list(row) for row in rows]
    return [[cell.replace(",", ".") if _WITH_COMMA.fullmatch(cell.strip()) else cell for cell in row] for row in rows]
