"""Access control: keeps the tokens, and announces every change to the web processes before it is acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import secrets as random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from django.conf import settings

from tfserve.access import secrets
from tfserve.access.local_token import LOCAL, LOCAL_ID, begin
from tfserve.access.principals import Scope
from tfserve.config import Settings
from tfserve.db import tokens
from tfserve.errors import Forbidden, TFserveError
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import (
    AccessChanged,
    AccessRules,
    CheckPasswordLink,
    CreatePasswordLink,
    CreateToken,
    EndSession,
    ListTokens,
    Message,
    NewToken,
    RevokeToken,
    RotateToken,
    SetPassword,
    TokenDigest,
    TokenInfo,
    TokenRule,
    TokensUsed,
)
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.models.announcements import send_to_all

log = logging.getLogger(__name__)

ANNOUNCE_S = 1.0
"""A web process that does not respond by then gets the change when it runs again, before its next request."""
LINK_S = 24 * 3600.0
PASSWORD_PAGE = "/pages/password/?code="  # noqa: S105 - a path

T = TypeVar("T")


class LinkInvalid(Forbidden):
    """This link is not valid: it was used, is older than a day, or a newer one was made. `tfserve token link` makes \
a new one."""


class Access:
    """The tokens of a running server."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self._settings = settings
        self._journal = journal
        self._lines: set[Connection] = set()
        self._rules = AccessRules(is_required=True, tokens=[])
        self._changing = asyncio.Lock()
        self._local = _local_rule(begin(settings.data_path))
        self._link: tuple[str, float] | None = None

    async def begin(self) -> None:
        """Reads the tokens. Must end before the first web process starts."""
        self._rules = await self._journal.change(self._read)

    @property
    def is_required(self) -> bool:
        return self._rules.is_required

    def rules(self, line: Connection) -> AccessRules:
        """The present rules, for a web process that starts; from here on it receives every change."""
        self._lines.add(line)
        line.lost.add_done_callback(lambda _: self._lines.discard(line))
        return self._rules

    @property
    def handlers(self) -> Mapping[type[Message], Callable[[Any], Awaitable[Any]]]:
        """The handlers of web's requests."""
        return {
            CreateToken: self._create,
            RotateToken: self._rotate,
            RevokeToken: self._revoke,
            ListTokens: self._list,
            TokensUsed: self._note_use,
            CreatePasswordLink: self._create_link,
            CheckPasswordLink: self._check_link,
            SetPassword: self._set_password,
            EndSession: self._end_session,
        }

    async def _create(self, request: CreateToken) -> NewToken:
        return await self._change(partial(tokens.create, request))

    async def _rotate(self, request: RotateToken) -> NewToken:
        return await self._change(partial(tokens.rotate, request.name, request.grace_s))

    async def _revoke(self, request: RevokeToken) -> TokenInfo:
        return await self._change(partial(tokens.revoke, request.name))

    async def _list(self, _: ListTokens) -> list[TokenInfo]:
        return await self._journal.change(tokens.listing)

    async def _note_use(self, request: TokensUsed) -> None:
        known = {id_: used for id_, used in request.used.items() if id_ != LOCAL_ID}
        if known:
            with contextlib.suppress(TFserveError):  # the next use is recorded, once the database can be written again
                await self._journal.change(partial(tokens.note_use, known))

    # --- the administrator's password

    async def first_link(self) -> str | None:
        """The path that sets the first password; None if there is one, or no log-in is needed."""
        if not self.is_required or await self._journal.change(tokens.has_password):
            return None
        return self.new_link()

    def new_link(self) -> str:
        """The path of a page that sets the password, once, within a day. Earlier links end."""
        code = random.token_urlsafe(24)
        self._link = code, time.monotonic() + LINK_S
        return PASSWORD_PAGE + code

    async def _create_link(self, _: CreatePasswordLink) -> str:
        return self.new_link()

    async def _check_link(self, request: CheckPasswordLink) -> None:
        """Raises `LinkInvalid`."""
        self._check(request.code)

    async def _set_password(self, request: SetPassword) -> str:
        """Raises `LinkInvalid`."""
        self._check(request.code)
        link, self._link = self._link, None
        try:
            return await self._journal.change(partial(tokens.set_password, request.password_hash))
        except BaseException:
            self._link = link
            raise

    async def _end_session(self, request: EndSession) -> None:
        lasts = timedelta(seconds=settings.SESSION_COOKIE_AGE)
        await self._journal.change(partial(tokens.end_session, request.log_in_id, lasts))

    # --- parts

    def _check(self, code: str) -> None:
        link = self._link
        if link is None or time.monotonic() > link[1] or not hmac.compare_digest(link[0].encode(), code.encode()):
            raise LinkInvalid

    async def _change(self, write: Callable[[], T]) -> T:
        """Writes, and returns when every web process applies the change."""
        async with self._changing:
            result, rules = await self._journal.change(lambda: (write(), self._read()))
            self._rules = rules
            await send_to_all(self._lines, AccessChanged(rules=rules), ANNOUNCE_S)
        return result

    def _read(self) -> AccessRules:
        return AccessRules(
            is_required=_is_required(self._settings, tokens.exist()), tokens=[self._local, *tokens.rules()]
        )


def _is_required(settings: Settings, exist: bool) -> bool:
    if settings.auth == "auto":
        return exist or not settings.is_loopback
    return settings.auth == "on"


def _local_rule(secret: str) -> TokenRule:
    digest = TokenDigest(secrets.digest(secret.encode()))
    return TokenRule(LOCAL_ID, LOCAL, [Scope.ADMIN], None, [digest])
