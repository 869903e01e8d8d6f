"""Valid workspace names."""

from __future__ import annotations

import re
import unicodedata

from tfserve.errors import Invalid

MAX_LENGTH = 100
PUNCTUATION = " ._-"
# Letters, combining marks that many scripts need, and decimal digits.
CATEGORIES = ("L", "M", "Nd")


# Invisible letters and marks (Unicode's default-ignorable code points of these categories): a name with one of them
# would look like another name.
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


class BadName(Invalid):
    """{name!r} is not a valid workspace name. Expected 1 to 100 letters (of any script), digits, spaces, '.', '_' or \
'-', not starting with a dot."""


class BadNewName(Invalid):
    """{name!r} is not a valid name for a new workspace. It must start with a letter, a digit or '_', and must not end \
with a space or contain invisible characters."""


def workspace_name(name: str) -> str:
    """The name in Unicode form NFC, so that é is the same however it was typed. Raises `BadName`."""
    normal = unicodedata.normalize("NFC", name)
    if not 0 < len(normal) <= MAX_LENGTH or normal.startswith(".") or normal.isspace():
        raise BadName(name=name[: MAX_LENGTH + 1])
    if not all(char in PUNCTUATION or unicodedata.category(char).startswith(CATEGORIES) for char in normal):
        raise BadName(name=name)
    return normal


def new_workspace_name(name: str) -> str:
    """The name of a workspace to be created. Raises `BadName`, `BadNewName`.

    Stricter than `workspace_name`: prevents new names that would mislead readers, shells or file systems, while
    existing workspaces with such names stay accessible.
    """
    normal = workspace_name(name)
    if not unicodedata.category(normal[0]).startswith(("L", "Nd")) and normal[0] != "_":
        raise BadNewName(name=name)
    if normal.endswith(" ") or INVISIBLE.search(normal):
        raise BadNewName(name=name)
    return normal
