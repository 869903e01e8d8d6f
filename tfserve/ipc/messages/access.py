"""Access control: the tokens that the web processes accept, and the requests that change them."""

from __future__ import annotations

import msgspec

from tfserve.ipc.messages.base import Message, Request


class TokenDigest(msgspec.Struct, frozen=True):
    """The SHA-256 of a token. A rotated token has two for a while."""

    sha256: bytes
    valid_until: float | None = None
    """Unix time; None: as long as the token exists."""


class TokenRule(msgspec.Struct, frozen=True):
    """A token that may be used, as the web processes know it."""

    id: int
    name: str
    scopes: list[str]
    workspaces: list[str] | None
    digests: list[TokenDigest]


class AccessRules(Message):
    """Whether requests need a token, and which there are."""

    is_required: bool
    tokens: list[TokenRule]


class GetAccessRules(Request[AccessRules]):
    """Sent by a web process that starts; from then on it receives `AccessChanged`."""


class AccessChanged(Request[None]):
    rules: AccessRules


class TokensUsed(Request[None]):
    """Unix times of the last use, by the tokens' ids."""

    used: dict[int, float]


class TokenInfo(msgspec.Struct, omit_defaults=True):
    """A token for its administrators, without its secret. Times are in ISO 8601."""

    name: str
    scopes: list[str]
    state: str
    """`active`, `expired` or `revoked`."""
    created_at: str
    created_by: str
    workspaces: list[str] | None = None
    expires_at: str | None = None
    last_used_at: str | None = None
    revoked_at: str | None = None
    previous_valid_until: str | None = None
    """Until when the secret before the last rotation is accepted."""


class NewToken(msgspec.Struct):
    """A token with its secret, which is shown only once."""

    token: str
    info: TokenInfo


class CreateToken(Request[NewToken]):
    name: str
    scopes: list[str]
    created_by: str
    workspaces: list[str] | None = None
    expires_s: float | None = None


class RotateToken(Request[NewToken]):
    name: str
    grace_s: float


class RevokeToken(Request[TokenInfo]):
    name: str


class ListTokens(Request[list[TokenInfo]]):
    pass


class CreatePasswordLink(Request[str]):
    """The path of a page, to be used once, that sets the password of the administrator."""


class CheckPasswordLink(Request[None]):
    """Refused with `Forbidden` if the link can't set the password."""

    code: str


class EndSession(Request[None]):
    """A person has logged out: no copy of the cookie of this log-in is accepted."""

    log_in_id: str


class SetPassword(Request[str]):
    """Sets the administrator's password with the code of a link. The response is the user name."""

    code: str
    password_hash: str
