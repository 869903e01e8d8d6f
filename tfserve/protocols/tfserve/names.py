"""What a workspace may be called."""

from __future__ import annotations

import re
import unicodedata

from tfserve.errors import Invalid

MAX_LENGTH = 100
PUNCTUATION = " ._-"
# Letters, and the marks that letters of many scripts need; decimal digits.
CATEGORIES = ("L", "M", "Nd")


# Letters and marks that show nothing (Unicode's default-ignorable code points of these categories): a name with one
# would look like another name.
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


class BadName(Invalid):
    """{name!r} can't be the name of a workspace: 1 to 100 letters, digits, spaces, '.', '_' or '-' of any script were \
expected, not beginning with a dot."""


class BadNewName(Invalid):
    """{name!r} can't be the name of a new workspace: it must begin with a letter, a digit or '_', must not end with a \
space and must not hold invisible characters."""


def workspace_name(name: str) -> str:
    """The name in one spelling (NFC), so that é is é however it was typed. Raises `BadName`."""
    normal = unicodedata.normalize("NFC", name)
    if not 0 < len(normal) <= MAX_LENGTH or normal.startswith(".") or normal.isspace():
        raise BadName(name=name[: MAX_LENGTH + 1])
    if not all(char in PUNCTUATION or unicodedata.category(char).startswith(CATEGORIES) for char in normal):
        raise BadName(name=name)
    return normal


def new_workspace_name(name: str) -> str:
    """The name of a workspace to be created. Raises `BadName`, `BadNewName`.

    Stricter than `workspace_name`, so that names that mislead a reader, a shell or a file system can't be created,
    while workspaces that already have such a name stay reachable.
    """
    normal = workspace_name(name)
    if not unicodedata.category(normal[0]).startswith(("L", "Nd")) and normal[0] != "_":
        raise BadNewName(name=name)
    if normal.endswith(" ") or INVISIBLE.search(normal):
        raise BadNewName(name=name)
    return normal
