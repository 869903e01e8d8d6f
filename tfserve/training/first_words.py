"""The first line of an error that says something: TensorFlow's begin with where in its graph they happened."""

from __future__ import annotations

import re
from itertools import pairwise

_PLACE = 'File "'
_SAYS_NOTHING = re.compile(
    r"Graph execution error|Detected at node|<stack traces|in user code:|\[\[\{\{|\d+ root error"
)
_PREFIX = re.compile(r"^(\{\{[^}]*\}\}\s*|\(\d+\)\s+[A-Z_]+:\s+)+")


def first_words(error: BaseException, limit: int = 300) -> str:
    """The name of the error when it says nothing at all."""
    lines = ["", *(line.strip() for line in str(error).splitlines())]
    told = next((line for before, line in pairwise(lines) if _says_something(before, line)), "")
    return _PREFIX.sub("", told)[:limit] or type(error).__name__


def _says_something(before: str, line: str) -> bool:
    """Neither a place in a program, nor the line of the program that follows one."""
    is_place = line.startswith(_PLACE) or before.startswith(_PLACE)
    return bool(line) and not is_place and not _SAYS_NOTHING.match(line)
