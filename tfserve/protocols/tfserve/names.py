"""What a workspace may be called."""

from __future__ import annotations

import unicodedata

from tfserve.errors import Invalid

MAX_LENGTH = 100
PUNCTUATION = " ._-"
# Letters, and the marks that letters of many scripts need; decimal digits.
CATEGORIES = ("L", "M", "Nd")


class BadName(Invalid):
    """{name!r} can't be the name of a workspace: 1 to 100 letters, digits, spaces, '.', '_' or '-' of any script were \
expected, not beginning with a dot."""


def workspace_name(name: str) -> str:
    """The name in one spelling (NFC), so that é is é however it was typed. Raises `BadName`."""
    normal = unicodedata.normalize("NFC", name)
    if not 0 < len(normal) <= MAX_LENGTH or normal.startswith(".") or normal.isspace():
        raise BadName(name=name[: MAX_LENGTH + 1])
    if not all(char in PUNCTUATION or unicodedata.category(char).startswith(CATEGORIES) for char in normal):
        raise BadName(name=name)
    return normal
