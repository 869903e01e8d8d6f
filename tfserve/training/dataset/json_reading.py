"""JSON from users' files, reduced to values that all readers can work with.

Python's own reader also returns whole numbers that no float can hold, halves of surrogate pairs, which can't be sent
or printed, and objects nested so deeply that printing them fails.
"""

from __future__ import annotations

import json
import re
from typing import Any

SPARE_CALLS = 50
"""Values are parsed this many calls deeper than here, so that code that prints them has this many left."""
MAX_DIGITS = 300
"""Whole numbers with more digits become floats: infinite ones, if they are larger than any float."""
_LONG_NUMBER = re.compile(rf"(?<!\d)\d{{{MAX_DIGITS + 1}}}")
_SURROGATE = re.compile(r"\\ud[89a-f]", re.IGNORECASE)


def parsed(text: str) -> Any:
    """Raises `ValueError` if it is not JSON, or nested too deeply."""
    whole = _whole if _LONG_NUMBER.search(text) else None
    try:
        content = _parsed(text, whole, SPARE_CALLS)
        if _SURROGATE.search(text):
            content = _parsed(json.dumps(content, ensure_ascii=False).encode(errors="replace"), whole, SPARE_CALLS)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    return content


def _parsed(text: str | bytes, whole: Any, calls: int) -> Any:
    return _parsed(text, whole, calls - 1) if calls else json.loads(text, parse_int=whole)


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else float(digits)
