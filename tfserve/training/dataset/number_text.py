"""Numbers in tables and annotations as programs write them, in many countries with a decimal comma: 0,25."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

_WITH_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_DECIMAL = re.compile(r"[+-]?(0,\d+|\d+,(\d\d?|\d{4,}))([eE][+-]?\d+)?")
"""A comma after which there are not exactly three digits, or with only a 0 before it, separates no thousands."""


def with_points(rows: Sequence[Sequence[str]], columns: Collection[int] | None = None) -> Sequence[Sequence[str]]:
    """The rows with a point in place of each decimal comma, only in these columns if they are given.

    `1,234` may be 1234 or 1.234, so it stays unless another cell shows that the comma is a decimal one.
    """

    def is_number(column: int, cell: str, pattern: re.Pattern[str]) -> bool:
        return (columns is None or column in columns) and "," in cell and pattern.fullmatch(cell.strip()) is not None

    if not any(is_number(column, cell, _DECIMAL) for row in rows for column, cell in enumerate(row)):
        return rows
    return [
        [cell.replace(",", ".") if is_number(column, cell, _WITH_COMMA) else cell for column, cell in enumerate(row)]
        for row in rows
    ]
