"""The request types of the token API."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

DEFAULT_GRACE = "24h"


class CreateToken(msgspec.Struct):
    """A new token."""

    name: Annotated[str, Meta(description="unique among the tokens that are not revoked")]
    scopes: Annotated[list[str], Meta(description="predict, submit, train or admin; submit includes predict")]
    workspaces: Annotated[
        list[str] | None, Meta(description="the only workspaces that exist for this token (default: all)")
    ] = None
    expires: Annotated[str | None, Meta(description="how long it is valid, such as 90d or 12h (default: no end)")] = (
        None
    )


class RotateToken(msgspec.Struct):
    """A new secret for a token."""

    grace: Annotated[str, Meta(description="how long the old secret stays valid, such as 24h; 0s: not at all")] = (
        DEFAULT_GRACE
    )
