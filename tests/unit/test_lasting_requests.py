"""What becomes of a request whose token or session ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine

import pytest
from starlette.types import Message, Scope

from tfserve.access import secrets
from tfserve.errors import DatabaseUnavailable
from tfserve.ipc.messages import AccessRules, TokenDigest, TokenRule
from tfserve.web.access import lasting_requests
from tfserve.web.access.audit_log import AuditLog
from tfserve.web.access.authenticator import Authenticator, TokenEnded
from tfserve.web.access.lasting_requests import SESSION_VALID_S, LastingRequest, LastingSessions
from tfserve.web.http.connection import CONNECTION

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
PIECE: Message = {"type": "http.response.body", "body": b"x", "more_body": True}


class Closing:
    """A connection of which only its end is known."""

    def __init__(self) -> None:
        self.transport = self
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class Served:
    """A request with a token, of an authenticator whose rules the test changes."""

    def __init__(self, *, is_required: bool = True) -> None:
        self.secret = secrets.new_secret().encode()
        self.authenticator = Authenticator(lambda _: None, AuditLog(None))
        self.accept(is_required=is_required)
        self.connection = Closing()
        self.sent: list[Message] = []
        self.scope: Scope = {"type": "http", "method": "GET", "path": "/x", "headers": [], CONNECTION: self.connection}
        self.request = LastingRequest(
            self.scope,
            self._receive,
            self._send,
            check=self._check,
            watch=lambda end: self.authenticator.watch(None, self.secret, end),
            unwatch=self.authenticator.unwatch,
        )
        self.request.require_sender()

    def accept(self, *, is_required: bool = True) -> None:
        rule = TokenRule(1, "t", ["predict"], None, [TokenDigest(secrets.digest(self.secret))])
        self.authenticator.apply(AccessRules(is_required=is_required, tokens=[rule]))

    def revoke(self) -> None:
        self.authenticator.apply(AccessRules(is_required=True, tokens=[]))

    async def _check(self) -> None:
        self.authenticator.check_again(None, self.secret)

    async def _receive(self) -> Message:
        return {"type": "http.request", "body": b""}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(scenario())


def test_a_stream_ends_at_the_moment_of_the_revocation() -> None:
    async def scenario() -> None:
        served = Served()
        for message in (START, PIECE):
            await served.request.send(message)
        served.accept()
        assert not served.connection.is_closed
        served.revoke()
        assert served.connection.is_closed
        await served.request.send(PIECE)
        assert served.sent == [START, PIECE]
        assert await served.request.receive() == {"type": "http.disconnect"}

    run(scenario)


def test_a_stream_that_begins_just_after_the_revocation_ends() -> None:
    async def scenario() -> None:
        served = Served()
        await served.request.send(START)
        served.revoke()
        await served.request.send(PIECE)
        assert served.connection.is_closed
        assert served.sent == [START]

    run(scenario)


def test_a_response_that_is_complete_is_not_watched_any_more() -> None:
    async def scenario() -> None:
        served = Served()
        for message in (START, PIECE):
            await served.request.send(message)
        served.request.over()
        served.revoke()
        assert not served.connection.is_closed

    run(scenario)


def test_an_expired_token_is_found_by_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """401 before the response has begun, and a closed connection afterwards."""
    monkeypatch.setattr(lasting_requests, "CHECK_EVERY_S", 0.0)

    async def scenario() -> None:
        served = Served()
        served.revoke()
        with pytest.raises(TokenEnded):
            await served.request.send(START)
        with pytest.raises(TokenEnded):
            await served.request.receive()
        begun = Served()
        await begun.request.send(START)
        begun.revoke()
        await begun.request.send({"type": "http.response.body", "body": b"whole"})
        assert begun.connection.is_closed
        assert begun.sent == [START]

    run(scenario)


def test_a_session_is_read_once_in_a_while_and_an_outage_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    outcomes: list[object] = ["admin", DatabaseUnavailable(cause="away"), "admin", None]
    methods: list[str] = []

    async def session_of(scope: Scope) -> object | None:
        methods.append(scope["method"])
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def scenario() -> None:
        nonlocal now
        sessions = LastingSessions(session_of)
        scope: Scope = {"type": "http", "method": "POST", "path": "/x", "headers": [(b"cookie", b"s=1")]}
        for left in (3, 2, 1):
            for _ in range(10):
                await sessions.check(scope)
            assert len(outcomes) == left
            now += SESSION_VALID_S
        with pytest.raises(TokenEnded, match="session has ended"):
            await sessions.check(scope)

    run(scenario)
    assert methods == ["GET"] * 4
