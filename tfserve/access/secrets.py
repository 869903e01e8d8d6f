"""Tokens as text: how they are made, recognised and stored.

A token has 256 random bits, so it cannot be guessed, and a fast hash of it is as good as a slow one.
"""

from __future__ import annotations

import hashlib
import re
import secrets

PREFIX = "tfs_"
"""Lets secret scanners find tokens that were published by mistake."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def digest(secret: bytes) -> bytes:
    """What is stored instead of a token."""
    return hashlib.sha256(secret).digest()


def is_name(text: str) -> bool:
    """Whether a token may have this name."""
    return _NAME.fullmatch(text) is not None
