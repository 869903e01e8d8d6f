"""What all calls share: authentication, limits, and the access log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfserve.access.principals import ADDRESS, ANONYMOUS, EVERYBODY, Principal, Scope
from tfserve.config import Settings
from tfserve.errors import Overloaded, TFserveError
from tfserve.web.access.authenticator import Authenticator, TokenMissing, TokenRefused
from tfserve.web.access.token_limits import TokenLimits
from tfserve.web.grpc_server.heads import CallHead, Method
from tfserve.web.grpc_server.incomplete import IncompleteCalls
from tfserve.web.http.access_log import AccessLog, Started
from tfserve.web.http.forwarded import TrustedProxies
from tfserve.web.http.request_ids import begin, join_trace, trace_id
from tfserve.web.rpc import StreamMethod, Unary


class TooManyCalls(Overloaded):
    """{limit} calls are in progress, the maximum on this server (max_requests). Try again later."""


class CallCount:
    """How many calls are in progress in this process, and may be."""

    __slots__ = ("_in_progress", "_limit")

    def __init__(self, limit: int) -> None:
        self._in_progress = 0
        self._limit = limit

    def enter(self) -> None:
        """Raises `TooManyCalls`; the call counts nevertheless until `leave`."""
        self._in_progress += 1
        if self._in_progress > self._limit:
            raise TooManyCalls(limit=self._limit)

    def leave(self) -> None:
        self._in_progress -= 1


@dataclass(slots=True)
class Edge:
    """The settings and the services that calls use, and the counts of calls in progress."""

    methods: Mapping[bytes, Method]
    settings: Settings
    access_log: AccessLog | None
    authenticator: Authenticator
    limits: TokenLimits
    proxies: TrustedProxies
    incomplete: IncompleteCalls
    calls: CallCount
    public_streams: CallCount
    """Streams without a token, such as Health.Watch: they must not use up what calls with a token need."""

    def count_of(self, method: Unary | StreamMethod, principal: Principal) -> CallCount | None:
        """What a call counts in. None for health checks, which are answered by a busy server too, as over HTTP."""
        if method.scope is not None:
            return self.calls
        if isinstance(method, Unary):
            return None
        return self.public_streams if principal is ANONYMOUS else self.calls

    def identify(self, head: CallHead, peer: Any) -> tuple[bytes, Started | None]:
        """Sets the id, trace and address of the call in the current context; returns the id, and the line to log."""
        request_id = begin(head.request_id)
        join_trace(head.traceparent)
        if head.client is None:
            head.client = self._client(head, peer)
        client, host = head.client
        ADDRESS.set(host)
        if self.access_log is None:
            return request_id, None
        started = self.access_log.begin(request_id=request_id.decode(), client=client, method="POST", path=head.path)
        started.entry.status, started.entry.trace_id = "OK", trace_id()
        return request_id, started

    def sender(self, head: CallHead, scope: Scope | None) -> Principal:
        """Who sends a call. Raises `Unauthenticated`, `ScopeRequired`."""
        metadata = head.metadata
        try:
            found = self.authenticator.principal(metadata.get(b"authorization"), metadata.get(b"x-api-key"))
        except TokenRefused:
            if scope is not None:
                raise
            found = None  # a probe with an old token, which needs none
        if scope is None:
            return found or ANONYMOUS
        if found is None:
            raise TokenMissing
        found.require(scope)
        return found

    async def slow_down(self, error: TFserveError) -> None:
        """Returns when a call may be refused with this error. Raises `TooManyFailures`."""
        if isinstance(error, TokenRefused):
            await self.authenticator.failed_attempts.note("refused token")

    def use(self, principal: Principal, size: int) -> int:
        """Counts a message of `size` bytes; returns what `TokenLimits.end` takes. Raises `Overloaded`."""
        return 0 if principal in (EVERYBODY, ANONYMOUS) else self.limits.begin(principal, size)

    def admit_another(self, head: CallHead, principal: Principal) -> None:
        """A message on a stream counts like a call, and its token may have ended. Raises `Unauthenticated`,
        `Overloaded`.
        """
        if principal not in (EVERYBODY, ANONYMOUS):
            self.authenticator.check_again(head.metadata.get(b"authorization"), head.metadata.get(b"x-api-key"))
            self.limits.begin(principal, 0)

    def _client(self, head: CallHead, peer: Any) -> tuple[str, str]:
        """The client for the access log, as gRPC writes it (`ipv4:192.0.2.1:80`) or as a trusted proxy reports it."""
        host, port = peer[:2] if isinstance(peer, tuple) else ("", 0)
        reported = self.proxies.client(host, head.fields).address
        if reported is None:
            return (f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"), host
        host, port = reported
        return (f"{host}:{port}" if port else host), host
