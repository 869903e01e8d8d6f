"""The header Idempotency-Key: a request that is sent again with the same key submits no second job."""

from __future__ import annotations

from starlette.types import Scope

from tfserve.errors import Invalid

MAX_KEY = 200
"""Maximum length of a key."""


def idempotency_key(scope: Scope) -> str | None:
    """The key of a request, if it has one. Raises `Invalid`."""
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            key: str = value.decode("latin-1")
            if not 0 < len(key) <= MAX_KEY or not key.isprintable():
                raise Invalid(f"the Idempotency-Key must be 1 to {MAX_KEY} printable characters, got {len(key)}")
            return key
    return None
