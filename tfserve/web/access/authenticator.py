"""Turns credentials into principals. Every request passes through here, so it costs a hash and a dictionary look-up."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from tfserve.access import secrets
from tfserve.access.principals import EVERYBODY, Principal, expanded
from tfserve.errors import Unauthenticated
from tfserve.ipc.messages import AccessRules, TokenRule, TokensUsed
from tfserve.web.access.audit_log import AuditLog
from tfserve.web.access.failed_attempts import FailedAttempts

log = logging.getLogger(__name__)

REPORT_USE_S = 1.0
BEARER = b"bearer "


class TokenMissing(Unauthenticated):
    """This server requires a token. Send it in the header Authorization: Bearer <token> or X-API-Key: <token>. \
`tfserve token create` makes one."""


class TokenRefused(Unauthenticated):
    """The token was refused: it is unknown, expired or revoked. `tfserve token list` lists the tokens."""


class TokenEnded(Unauthenticated):
    """The token was revoked or expired while this request was running, so its response is not sent. What the request \
started continues; send another token to get its result."""


class _Known(NamedTuple):
    """A token that is accepted."""

    id: int
    digest: bytes
    valid_until: float | None
    principal: Principal


class Authenticator:
    """The rules of this process, which the supervisor keeps up to date."""

    def __init__(self, report_use: Callable[[TokensUsed], None], audit: AuditLog) -> None:
        self.is_required = True
        self.failed_attempts = FailedAttempts(audit)
        self._known: dict[bytes, _Known] = {}
        self._report_use = report_use
        self._used: dict[int, float] = {}
        self._watched: dict[Callable[[], None], bytes] = {}

    def apply(self, rules: AccessRules) -> None:
        """From now on, exactly these tokens are accepted."""
        self.is_required = rules.is_required
        self._known = {known.digest: known for rule in rules.tokens for known in _known(rule)}
        if self.is_required:
            for end in [end for end, digest in self._watched.items() if digest not in self._known]:
                self.unwatch(end)
                end()

    def principal(self, authorization: bytes | None, api_key: bytes | None) -> Principal | None:
        """The sender of a request with these headers; None without credentials. Raises `TokenRefused`."""
        if not self.is_required:
            return EVERYBODY
        secret = _secret(authorization, api_key)
        if secret is None:
            return None
        digest = secrets.digest(secret)
        known = self._known.get(digest)
        # The keys are hashes, so how long the look-up takes reveals nothing about a token.
        if known is None or not hmac.compare_digest(known.digest, digest):
            raise TokenRefused
        now = time.time()
        if known.valid_until is not None and now >= known.valid_until:
            raise TokenRefused
        self._note_use(known.id, now)
        return known.principal

    def check_again(self, authorization: bytes | None, api_key: bytes | None) -> None:
        """For a request that has been running for a while. Raises `TokenEnded`."""
        try:
            self.principal(authorization, api_key)
        except TokenRefused:
            raise TokenEnded from None

    def watch(self, authorization: bytes | None, api_key: bytes | None, end: Callable[[], None]) -> None:
        """Calls `end` once the token in these headers is revoked, at once if it already is, until `unwatch`.

        Not when it expires: what may be sent then calls `check_again`.
        """
        try:
            secret = _secret(authorization, api_key)
            self.principal(authorization, api_key)
        except TokenRefused:
            end()
            return
        if secret is not None:
            self._watched[end] = secrets.digest(secret)

    def unwatch(self, end: Callable[[], None]) -> None:
        self._watched.pop(end, None)

    def _note_use(self, token_id: int, now: float) -> None:
        if not self._used:
            asyncio.get_running_loop().call_later(REPORT_USE_S, self._report)
        self._used[token_id] = now

    def _report(self) -> None:
        used, self._used = self._used, {}
        self._report_use(TokensUsed(used=used))


def _secret(authorization: bytes | None, api_key: bytes | None) -> bytes | None:
    if authorization is None:
        return api_key
    if authorization[:7].lower() == BEARER:
        return authorization[7:].strip()
    raise TokenRefused("The header Authorization must be 'Bearer <token>', as `tfserve token create` printed it.")


def _known(rule: TokenRule) -> list[_Known]:
    owner = f"token:{rule.id}"
    workspaces = None if rule.workspaces is None else frozenset(rule.workspaces)
    principal = Principal(rule.name, owner, expanded(rule.scopes), workspaces)
    return [_Known(rule.id, each.sha256, each.valid_until, principal) for each in rule.digests]
