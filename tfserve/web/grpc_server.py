"""gRPC's own server in the web process, on the loop of the web process.

It opens its port itself. Several web processes share one port (SO_REUSEPORT): the kernel spreads connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from google.protobuf.message import DecodeError, Message

from tfserve.access.principals import ADDRESS, ANONYMOUS, EVERYBODY, PRINCIPAL, Principal, Scope
from tfserve.certificates import CertificateFiles, CertificateUnusable, Reloading, files_of, server_context
from tfserve.config import Settings
from tfserve.errors import Internal, Invalid, TFserveError, Unauthenticated
from tfserve.ipc.predictions import DEFAULT_URGENCY
from tfserve.web.access.authenticator import Authenticator, TokenMissing
from tfserve.web.access.token_limits import TokenLimits
from tfserve.web.http.access_log import CURRENT, AccessLog
from tfserve.web.http.forwarded import TrustedProxies
from tfserve.web.http.offload import offloaded
from tfserve.web.http.priority_headers import read_priority_headers
from tfserve.web.http.request_ids import HEADER, TRACE_HEADER, begin, join_trace, trace_id
from tfserve.web.predictions import message_expansion
from tfserve.web.predictions.request import CallerGone
from tfserve.web.rpc import STATUS, Service, Stream, Unary

if TYPE_CHECKING:
    import grpc

log = logging.getLogger(__name__)

ID = HEADER.decode()

#: A stream may stay open indefinitely, so the shutdown does not wait for it.
GRACEFUL_S = 1
#: A message of at most this size stays small when it is parsed, whatever it contains.
SMALL_BYTES = 16 * 1024
PENDING_FACTOR = 10
#: What a client may set to keep a connection alive; gRPC's own server takes a ping every five minutes.
MIN_PING_INTERVAL_MS = 10_000


@asynccontextmanager
async def serving(
    services: Sequence[Service],
    settings: Settings,
    access_log: AccessLog | None,
    authenticator: Authenticator,
    limits: TokenLimits,
) -> AsyncIterator[None]:
    """Serves until the block ends; then calls that run have some seconds. Raises `OSError` when the port is taken."""
    server = _make(services, settings, access_log, authenticator, limits)
    await server.start()
    try:
        yield
    finally:
        await server.stop(GRACEFUL_S)


def _make(
    services: Sequence[Service],
    settings: Settings,
    access_log: AccessLog | None,
    authenticator: Authenticator,
    limits: TokenLimits,
) -> grpc.aio.Server:
    import grpc

    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 1),
            # gRPC's C library cancels calls at random, without a word, when 1,000 wait to be taken up. What is too
            # much is refused by `maximum_concurrent_rpcs` instead, with a status.
            ("grpc.server.max_pending_requests", PENDING_FACTOR * settings.max_requests),
            ("grpc.server.max_pending_requests_hard_limit", PENDING_FACTOR * settings.max_requests),
            ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.server_handshake_timeout_ms", int(1000 * settings.header_timeout_s)),
        ],
        maximum_concurrent_rpcs=settings.max_requests,
    )
    edge = _Edge(TrustedProxies(settings.proxies), access_log, authenticator, limits)
    server.add_generic_rpc_handlers([_handlers(service, edge) for service in services])
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        _add_port(server, f"{host}:{settings.grpc_port}", files_of(settings))
    except RuntimeError as error:
        raise OSError(f"can't listen on {host}:{settings.grpc_port} for gRPC: {error}") from error
    return server


def _add_port(server: grpc.aio.Server, address: str, files: CertificateFiles | None) -> None:
    """With a certificate, each handshake uses the current content of its files. Raises `CertificateUnusable`."""
    if files is None:
        server.add_insecure_port(address)
        return
    import grpc

    certificate = Reloading(files, _grpc_certificate)

    def changed() -> Any:
        return certificate.current if certificate.reload() else None

    credentials = grpc.dynamic_ssl_server_credentials(
        certificate.current, changed, require_client_authentication=files.client_ca is not None
    )
    server.add_secure_port(address, credentials)


def _grpc_certificate(files: CertificateFiles) -> Any:
    """Raises `CertificateUnusable`; gRPC itself would only report to its own log."""
    import grpc

    server_context(files)
    try:
        pair = files.key.read_bytes(), files.certificate.read_bytes()
        client_ca = files.client_ca.read_bytes() if files.client_ca else None
    except OSError as error:
        raise CertificateUnusable(file=str(error.filename), problem=str(error.strerror)) from None
    return grpc.ssl_server_certificate_configuration([pair], client_ca)


def _handlers(service: Service, edge: _Edge) -> grpc.GenericRpcHandler:
    import grpc

    return grpc.method_handlers_generic_handler(
        service.name,
        {
            name: _handler(method, _Entrance(f"/{service.name}/{name}", edge, method.scope))
            for name, method in service.methods.items()
        },
    )


def _handler(method: Unary | Stream, entrance: _Entrance) -> grpc.RpcMethodHandler[Any, Any]:
    import grpc

    make, answer = (
        (grpc.unary_unary_rpc_method_handler, _unary(method, entrance))
        if isinstance(method, Unary)
        else (grpc.stream_stream_rpc_method_handler, _stream(method, entrance))
    )
    # Messages are read in the method itself: gRPC calls what it can't read a fault of the server's (UNKNOWN).
    handler: grpc.RpcMethodHandler[Any, Any] = make(answer, response_serializer=method.response.SerializeToString)
    return handler


async def _message(kind: type[Message], data: bytes, call: _Call) -> Any:
    """The message in `data`; one that is made of much is read in a thread. Raises `Invalid`, `TooLarge`."""
    if len(data) <= SMALL_BYTES or message_expansion.is_small(data, kind.DESCRIPTOR):
        return _read(kind, data)
    call.is_heavy = True
    return await offloaded(partial(_checked, kind, data))


def _checked(kind: type[Message], data: bytes) -> Any:
    message_expansion.check(data, kind.DESCRIPTOR)
    return _read(kind, data)


def _read(kind: type[Message], data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise Invalid(
            f"The message of {len(data)} bytes can't be read as {kind.DESCRIPTOR.full_name}: it is damaged or of"
            " another type. GET /v2 and gRPC reflection list what this server offers."
        ) from None


class _Call:
    """What gRPC knows about a call, as our methods need it."""

    __slots__ = ("_context", "is_heavy")

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context
        self.is_heavy = False

    @property
    def timeout_s(self) -> float | None:
        return self._context.time_remaining()

    @property
    def urgency(self) -> int:
        for name, value in self._context.invocation_metadata() or ():
            if name == "priority":
                return read_priority_headers({b"priority": str(value).encode()})[0]
        return DEFAULT_URGENCY


@dataclass(frozen=True)
class _Edge:
    """What all calls share."""

    proxies: TrustedProxies
    access_log: AccessLog | None
    authenticator: Authenticator
    limits: TokenLimits


class _Entrance:
    """Gives each call of a method its id and its line in the access log, and admits its caller."""

    def __init__(self, path: str, edge: _Edge, scope: Scope | None) -> None:
        self._path = path
        self._proxies = edge.proxies
        self._access_log = edge.access_log
        self._authenticator = edge.authenticator
        self._limits = edge.limits
        self._scope = scope

    @contextmanager
    def __call__(self, context: grpc.aio.ServicerContext[Any, Any]) -> Iterator[None]:
        request_id = begin(_given(context, ID)).decode()
        join_trace(_given(context, TRACE_HEADER.decode()))
        context.set_trailing_metadata(((ID, request_id),))
        if self._access_log is None:
            yield
            return
        client = _client(context, self._proxies)
        logged = self._access_log.entry(request_id=request_id, client=client, method="POST", path=self._path)
        with logged as entry:
            entry.status, entry.trace_id = "OK", trace_id()
            yield

    @asynccontextmanager
    async def admitted(self, context: grpc.aio.ServicerContext[Any, Any], size: int) -> AsyncIterator[None]:
        """Sets `PRINCIPAL` for a call with a message of `size` bytes.

        Raises `Unauthenticated`, `ScopeRequired`, and `Overloaded` beyond the limits of the token.
        """
        principal = await self._principal(context)
        PRINCIPAL.set(principal)
        counted = 0 if principal in (EVERYBODY, ANONYMOUS) else self._limits.begin(principal, size)
        try:
            yield
        finally:
            if counted:
                self._limits.end(principal, counted)

    async def _principal(self, context: grpc.aio.ServicerContext[Any, Any]) -> Principal:
        ADDRESS.set(_address(context, self._proxies)[0])
        metadata = {name: _bytes(value) for name, value in context.invocation_metadata() or ()}
        try:
            found = self._authenticator.principal(metadata.get("authorization"), metadata.get("x-api-key"))
        except Unauthenticated:
            await self._authenticator.failed_attempts.note("refused token")
            raise
        if found is None and self._scope is not None:
            raise TokenMissing
        principal = found or ANONYMOUS
        if self._scope is not None:
            principal.require(self._scope)
        return principal


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _client(context: grpc.aio.ServicerContext[Any, Any], proxies: TrustedProxies) -> str:
    """The client for the access log: as gRPC writes it (`ipv4:192.0.2.1:80`), or as a trusted proxy reports it."""
    host, port = _address(context, proxies)
    if host == _peer_host(context):
        return context.peer()
    return f"{host}:{port}" if port else host


def _address(context: grpc.aio.ServicerContext[Any, Any], proxies: TrustedProxies) -> tuple[str, int]:
    """Host and port of the client, which a trusted proxy may report."""
    metadata = [(name.encode(), _bytes(value)) for name, value in context.invocation_metadata() or ()]
    host = _peer_host(context)
    return proxies.client(host, metadata).address or (host, 0)


def _peer_host(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    return unquote(context.peer()).partition(":")[2].rpartition(":")[0].strip("[]")


def _given(context: grpc.aio.ServicerContext[Any, Any], key: str) -> bytes | None:
    """A value of the caller's metadata."""
    for name, value in context.invocation_metadata() or ():
        if name == key:
            return _bytes(value)
    return None


def _unary(method: Unary, entrance: _Entrance) -> Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]:
    answer = method.answer

    async def serve(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        with entrance(context):
            try:
                async with entrance.admitted(context, len(data)):
                    call = _Call(context)
                    return await answer(await _message(method.request, data, call), call)
            except Exception as error:
                await _abort(context, error)

    return serve


def _stream(
    method: Stream, entrance: _Entrance
) -> Callable[[Any, grpc.aio.ServicerContext[Any, Any]], AsyncIterator[Any]]:
    answer = method.answer

    async def serve(datas: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        with entrance(context):
            try:
                async with entrance.admitted(context, 0):
                    call = _Call(context)
                    requests = _messages(method.request, datas, call)
                    async with aclosing(answer(requests, call)) as answers:
                        async for each in answers:
                            yield each
            except Exception as error:
                await _abort(context, error)

    return serve


async def _messages(kind: type[Message], datas: Any, call: _Call) -> AsyncIterator[Any]:
    async for data in datas:
        yield await _message(kind, data, call)


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> None:
    """Ends the call with the status of the error; what we did not foresee goes to the log, not to the client."""
    import grpc

    if isinstance(error, CallerGone):
        raise asyncio.CancelledError
    if not isinstance(error, TFserveError):
        log.error("a gRPC call failed", exc_info=error)
        error = Internal()
    if (entry := CURRENT.get()) is not None:
        entry.status, entry.error = STATUS[error.kind].name, error.kind
    await context.abort(getattr(grpc.StatusCode, STATUS[error.kind].name), error.message)
