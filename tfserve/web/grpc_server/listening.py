"""The port: listening, TLS, and the end of the server.

Several web processes share one port (SO_REUSEPORT): the kernel spreads connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tfserve.certificates import files_of
from tfserve.config import Settings
from tfserve.web.access.authenticator import Authenticator
from tfserve.web.access.token_limits import TokenLimits
from tfserve.web.grpc_server.calls import GrpcCall
from tfserve.web.grpc_server.edge import CallCount, Edge
from tfserve.web.grpc_server.foreign import ForeignRequest
from tfserve.web.grpc_server.heads import CallHead, Method
from tfserve.web.grpc_server.incomplete import IncompleteCalls
from tfserve.web.grpc_server.streaming import StreamingCall
from tfserve.web.grpc_server.unary import UnaryCall
from tfserve.web.http.access_log import AccessLog
from tfserve.web.http.forwarded import TrustedProxies
from tfserve.web.http.tls import reloading_context
from tfserve.web.http2.connection import Http2Connection
from tfserve.web.http2.header_blocks import Field
from tfserve.web.http2.outgoing import Outgoing
from tfserve.web.http2.streams import Stream
from tfserve.web.rpc import Service, Unary

#: A stream may stay open indefinitely, so the shutdown does not wait for it.
GRACEFUL_S = 1.0
CLOSE_S = 0.2
BACKLOG = 512
PROTOCOLS = ("h2",)


@asynccontextmanager
async def serving(
    services: Sequence[Service],
    settings: Settings,
    access_log: AccessLog | None,
    authenticator: Authenticator,
    limits: TokenLimits,
) -> AsyncIterator[None]:
    """Serves until the block ends; then calls that run have a second.

    Raises `OSError` when the port is taken, and `CertificateUnusable`.
    """
    proxies, incomplete = TrustedProxies(settings.proxies), IncompleteCalls(settings.body_timeout_s)
    counts = [CallCount(settings.max_requests) for _ in range(2)]
    port = _Port(Edge(_methods(services), settings, access_log, authenticator, limits, proxies, incomplete, *counts))
    server = await port.listen()
    try:
        yield
    finally:
        server.close()
        await port.stop()


def _methods(services: Sequence[Service]) -> dict[bytes, Method]:
    return {
        (path := f"/{service.name}/{name}").encode(): Method(path, answers)
        for service in services
        for name, answers in service.methods.items()
    }


class _Port:
    """The open connections."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._connections: set[Http2Connection[CallHead]] = set()

    async def listen(self) -> asyncio.AbstractServer:
        settings = self._edge.settings
        files = files_of(settings)
        context = reloading_context(files, PROTOCOLS) if files is not None else None
        host, number = settings.host, settings.grpc_port
        try:
            return await asyncio.get_running_loop().create_server(
                self._connection, host, number, ssl=context, reuse_port=True, backlog=BACKLOG
            )
        except OSError as error:
            raise OSError(f"can't listen on {host}:{number} for gRPC: {error}") from error

    async def stop(self) -> None:
        """Lets the calls that run end, and then closes all connections."""
        for each in list(self._connections):
            each.drain()
        await self._wait_for_connections(GRACEFUL_S)
        for each in list(self._connections):
            each.abort()
        await self._wait_for_connections(CLOSE_S)

    async def _wait_for_connections(self, timeout_s: float) -> None:
        if self._connections:
            await asyncio.wait([each.lost for each in self._connections], timeout=timeout_s)

    def _connection(self) -> Http2Connection[CallHead]:
        settings = self._edge.settings
        made = Http2Connection(
            self._read_head,
            self._open,
            max_streams=settings.max_requests,
            preface_timeout_s=settings.header_timeout_s,
        )
        self._connections.add(made)
        made.lost.add_done_callback(lambda _: self._connections.discard(made))
        return made

    def _read_head(self, fields: list[Field]) -> CallHead:
        return CallHead(fields, self._edge.methods)

    def _open(self, connection: Outgoing, stream_id: int, head: CallHead) -> Stream:
        if head.not_grpc is not None:
            return ForeignRequest(connection, stream_id, head.not_grpc)
        if head.method is None:
            return GrpcCall(connection, stream_id, head, self._edge)  # refused at its beginning
        answers: Any = head.method.answers
        make: Any = UnaryCall if isinstance(answers, Unary) else StreamingCall
        call: Stream = make(connection, stream_id, head, self._edge, answers)
        return call
