"""What all calls share: authentication, limits, and the access log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfserve.access.principals import ADDRESS, ANONYMOUS, EVERYBODY, PRINCIPAL, Principal, Scope
from tfserve.config import Settings
from tfserve.errors import Overloaded, Unauthenticated
from tfserve.web.access.authenticator import Authenticator, TokenMissing
from tfserve.web.access.token_limits import TokenLimits
from tfserve.web.grpc_server.heads import CallHead, Method
from tfserve.web.grpc_server.incomplete import IncompleteCalls
from tfserve.web.http.access_log import AccessLog, Started
from tfserve.web.http.forwarded import TrustedProxies
from tfserve.web.http.request_ids import begin, join_trace, trace_id


class TooManyCalls(Overloaded):
    """{limit} calls are in progress, the maximum on this server (max_requests). Try again later."""


@dataclass(slots=True)
class Edge:
    """The settings and the services that calls use; `in_progress` counts the calls of the process."""

    methods: Mapping[bytes, Method]
    settings: Settings
    access_log: AccessLog | None
    authenticator: Authenticator
    limits: TokenLimits
    proxies: TrustedProxies
    incomplete: IncompleteCalls
    in_progress: int = 0

    def enter(self) -> None:
        """Counts a call. Raises `TooManyCalls`; it counts nevertheless until `leave`."""
        self.in_progress += 1
        if self.in_progress > self.settings.max_requests:
            raise TooManyCalls(limit=self.settings.max_requests)

    def leave(self) -> None:
        self.in_progress -= 1

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

    async def admit(self, head: CallHead, scope: Scope | None, size: int) -> tuple[Principal, int]:
        """Sets `PRINCIPAL` for a call with a message of `size` bytes; returns what `TokenLimits.end` takes.

        Raises `Unauthenticated`, `ScopeRequired`, and `Overloaded` beyond the limits of the token.
        """
        metadata = head.metadata
        try:
            found = self.authenticator.principal(metadata.get(b"authorization"), metadata.get(b"x-api-key"))
        except Unauthenticated:
            await self.authenticator.failed_attempts.note("refused token")
            raise
        if found is None and scope is not None:
            raise TokenMissing
        principal = found or ANONYMOUS
        if scope is not None:
            principal.require(scope)
        PRINCIPAL.set(principal)
        return principal, 0 if principal in (EVERYBODY, ANONYMOUS) else self.limits.begin(principal, size)

    def _client(self, head: CallHead, peer: Any) -> tuple[str, str]:
        """The client for the access log, as gRPC writes it (`ipv4:192.0.2.1:80`) or as a trusted proxy reports it."""
        host, port = peer[:2] if isinstance(peer, tuple) else ("", 0)
        reported = self.proxies.client(host, head.fields).address
        if reported is None:
            return (f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"), host
        host, port = reported
        return (f"{host}:{port}" if port else host), host
