"""The web process: serves the APIs and the pages on the socket that it inherits from the supervisor."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import django
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tfserve import linux
from tfserve.certificates import CertificateUnusable
from tfserve.cluster.membership import Membership
from tfserve.config import Settings, load
from tfserve.errors import Forbidden, Internal, Invalid, Kind, NotFound, TFserveError, Unavailable, nearest
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import AccessChanged, GetAccessRules, GetModels, WakeModel
from tfserve.ipc.messages import Message as IpcMessage
from tfserve.web.access.audit_log import AuditLog
from tfserve.web.access.authentication import DOCS, Authentication, is_browser, is_navigation
from tfserve.web.access.authenticator import Authenticator, TokenMissing
from tfserve.web.access.password_checks import PasswordChecks
from tfserve.web.access.token_limits import TokenLimits
from tfserve.web.api.endpoint import Context
from tfserve.web.http.access_log import AccessLog
from tfserve.web.http.cross_origin import VARY, CrossOrigin, Preflights
from tfserve.web.http.forwarded import Forwarded, TrustedProxies
from tfserve.web.http.guard import Guard
from tfserve.web.http.members import MembersPort
from tfserve.web.http.request_boundary import RequestBoundary
from tfserve.web.http.request_ids import RequestIdFilter
from tfserve.web.http.responses import PAGE_ERROR, STATUS, MethodNotAllowed, error_counts, send_error
from tfserve.web.http.server import GRACEFUL_S, make_server
from tfserve.web.http.static_files import IMMUTABLE, Favicon, Static
from tfserve.web.http.tls import new_loop
from tfserve.web.predictions import model_messages
from tfserve.web.predictions.live_models import LiveModels
from tfserve.web.supervisor_client import SupervisorClient

if TYPE_CHECKING:  # they import the database's models, which need `django.setup`
    from tfserve.web.api.fast_predictions import FastPredictions
    from tfserve.web.api.v1.rest import V1
    from tfserve.web.api.v2.rest import V2
    from tfserve.web.rpc import Service

GC_THRESHOLDS = (20_000, 20, 20)
"""Requests create few reference cycles, so the garbage collector may run rarely."""
SWITCH_INTERVAL_S = 0.001
"""Thread switch interval that keeps the event loop running while a thread reads a large body (default: 5 ms)."""


class Program:
    """What a web process serves. That of a node of a cluster is another one (`tfserve.node.web`)."""

    def client(self, connection: Connection) -> SupervisorClient:
        return SupervisorClient(connection)

    async def begin(self, line: SupervisorClient, models: LiveModels) -> None:
        """Called when the models are known, before the layers are made."""

    def layers(self, context: Context, authenticator: Authenticator, limits: TokenLimits) -> Layers:
        return make_layers(context, authenticator, limits)

    def services(self, context: Context) -> list[Service]:
        """Those of the gRPC port. The gRPC libraries are only imported if there is one."""
        from tfserve.web.api.grpc_services import all_services

        return all_services(context)

    def grace_s(self) -> float:
        """How long requests may take to end when the process stops."""
        return GRACEFUL_S

    async def end(self) -> None:
        """Called when the last response has been sent."""

    async def handle(self, message: IpcMessage) -> None:
        """Handles what only this program understands."""
        raise Internal(f"web does not handle {type(message).__name__}")


def main(program: Program | None = None) -> None:
    """Started by the supervisor: `--line`, `--listen` and `--members` are inherited file descriptors."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--line", type=int, required=True)
    parser.add_argument("--listen", type=int, nargs="+", required=True)
    parser.add_argument("--members", type=int)
    arguments = parser.parse_args()
    linux.die_with_parent(os.getppid())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s web: %(message)s%(request)s")
    logging.getLogger().handlers[0].addFilter(RequestIdFilter())
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    django.setup()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=partial(new_loop, load().header_timeout_s)) as runner:
        listening = [socket.socket(fileno=fd) for fd in arguments.listen]
        members = socket.socket(fileno=arguments.members) if arguments.members is not None else None
        try:
            runner.run(_serve(program or Program(), socket.socket(fileno=arguments.line), listening, members))
        except CertificateUnusable as error:
            sys.exit(error.message)


async def _serve(
    program: Program, line_socket: socket.socket, listening: list[socket.socket], members: socket.socket | None
) -> None:
    settings, membership = load(), Membership.of_environment()
    models = LiveModels(
        timeout_s=settings.predict_timeout_s,
        limit=settings.max_predictions,
        wake=lambda name, in_full: line.ask(WakeModel(workspace=name, in_full=in_full)),
        membership=membership,
    )
    access_log = AccessLog(settings.access_log) if settings.access_log else None
    audit = AuditLog(settings.audit_log_path)
    connection = await Connection.open(line_socket, lambda message: _handle(program, models, authenticator, message))
    connection.lost.add_done_callback(lambda _: os._exit(0))  # cannot serve without the supervisor
    line = program.client(connection)
    authenticator = Authenticator(connection.notify, audit)
    limits = TokenLimits(settings)
    authenticator.apply(await line.ask(GetAccessRules()))
    await models.begin((await line.ask(GetModels())).models)
    await program.begin(line, models)
    context = Context(line=line, models=models, settings=settings, start_folder=Path.cwd(), audit=audit)
    layers = program.layers(context, authenticator, limits)
    app = _with_headers(RequestBoundary(layers.app, access_log), settings)
    port = MembersPort(members, membership.identity.server_context()) if members and membership else None
    server = make_server(app, settings, _fast(layers, settings, access_log), port, program.grace_s)
    # uvicorn re-raises the signal that stopped it after its shutdown; this process still has clean-up to do then.
    signal.signal(signal.SIGTERM, _ignore)
    async with _grpc(program, context, access_log, authenticator, limits):
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        await server.serve(sockets=listening)
    await program.end()
    if access_log is not None:
        access_log.close()
    connection.lost = asyncio.get_running_loop().create_future()


def _with_headers(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Outside of the request boundary: headers of other origins and of proxies, and traces, if they are configured."""
    if settings.origins:
        app = CrossOrigin(app, settings.origins)
    if settings.tracing:
        from tfserve.web.tracing import traced  # an extra

        app = traced(app)
    return Forwarded(app, TrustedProxies(settings.proxies)) if settings.proxies else app


def _ignore(*_: object) -> None:
    pass


@asynccontextmanager
async def _grpc(
    program: Program, context: Context, access_log: AccessLog | None, authenticator: Authenticator, limits: TokenLimits
) -> AsyncIterator[None]:
    """The gRPC port, if one is configured. The gRPC libraries are only imported in that case."""
    if not context.settings.grpc_port:
        yield
        return
    from tfserve.web.grpc_server import serving

    async with serving(program.services(context), context.settings, access_log, authenticator, limits):
        yield


async def _handle(program: Program, models: LiveModels, authenticator: Authenticator, message: IpcMessage) -> Any:
    """Handles the requests of the supervisor."""

    async def others(message: IpcMessage) -> None:
        if isinstance(message, AccessChanged):
            authenticator.apply(message.rules)
        else:
            await program.handle(message)

    return await model_messages.handle(models, message, others, error_counts)


class Layers(NamedTuple):
    """The application, from the outside to the inside, for the fast path, which does without ASGI."""

    app: ASGIApp
    guard: Guard
    authentication: Authentication
    v1: V1
    v2: V2


def make_layers(context: Context, authenticator: Authenticator, limits: TokenLimits) -> Layers:
    """All routes, inside authentication and the request guard. Must be called after `django.setup`."""
    from django.core.asgi import get_asgi_application

    from tfserve.web.api.grpc_over_http import PATH, GrpcOverHttp
    from tfserve.web.api.root import Root, endpoints
    from tfserve.web.api.routes import routes
    from tfserve.web.api.v1.rest import V1
    from tfserve.web.api.v2.rest import V2
    from tfserve.web.pages.sessions import session_principal

    pages = _compressed(Pages(cast(ASGIApp, get_asgi_application()), context, authenticator))
    own = routes(endpoints(), context)
    router = Router(
        [
            Route("/", Root(context, pages)),
            Route("/favicon.ico", Favicon()),
            *(Route(path, pages) for path in DOCS),
            *own,
            Route(f"{PATH}{{method:path}}", GrpcOverHttp(context)),
            Route("/pages/{rest:path}", pages),
            Mount("/static/v{version}", _compressed(Static(IMMUTABLE))),
            Mount("/static", _compressed(Static())),
        ],
        redirect_slashes=False,
        default=Unknown([route.path for route in own], pages),
        lifespan=lifespan(context.line),
    )
    v1, v2 = V1(context), V2(context)
    settings = context.settings
    app: ASGIApp = Prefixes({"/v1/": v1, "/V1/": v1, "/v2": v2, "/v2/": v2}, router)
    authentication = Authentication(app, authenticator, limits, session_principal, pages)
    app = Preflights(authentication, settings.origins) if settings.origins else authentication
    guard = Guard(app, settings)
    return Layers(guard, guard, authentication, v1, v2)


def _fast(layers: Layers, settings: Settings, access_log: AccessLog | None) -> FastPredictions | None:
    """The same layers without ASGI. Not with traces, whose spans are made by ASGI middleware."""
    if settings.tracing:
        return None
    from tfserve.web.api.fast_predictions import FastPredictions

    return FastPredictions(
        layers.v1,
        layers.v2,
        guard=layers.guard,
        authentication=layers.authentication,
        forwarded=Forwarded(layers.app, TrustedProxies(settings.proxies)) if settings.proxies else None,
        access_log=access_log,
        tail=(VARY,) if settings.origins else (),
    )


def _compressed(app: ASGIApp) -> ASGIApp:
    """For pages and their files, but not for streams of events. Django masks the CSRF token of each page."""
    return GZipMiddleware(app, minimum_size=1000, compresslevel=6)


class Prefixes:
    """Dispatches requests by the first four characters of their path. Others go to `rest`.

    The prediction protocols bypass the router, which would take as long as the rest of a prediction.
    """

    def __init__(self, apps: dict[str, ASGIApp], rest: ASGIApp) -> None:
        self._apps = apps
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._apps.get(scope.get("path", "")[:4], self._rest)(scope, receive, send)


class Pages:
    """Django, with the connection to the supervisor in its scope: views find it as `request.scope["line"]`.

    Clients without `text/html` in their Accept header get errors as JSON, as everywhere else.
    """

    def __init__(self, django_app: ASGIApp, context: Context, authenticator: Authenticator) -> None:
        self._django = django_app
        self._services = {
            "line": context.line,
            "models": context.models,
            "settings": context.settings,
            "audit": context.audit,
            "failed_attempts": authenticator.failed_attempts,
            "password_checks": PasswordChecks(context.audit),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, **self._services}
        await self._django(scope, receive, send if is_browser(scope) else self._in_json(scope, send))

    def _in_json(self, scope: Scope, send: Send) -> Send:
        status = 200

        async def send_in_json(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            if status < 400:
                await send(message)
            elif message["type"] == "http.response.start":
                await send_error(scope, send, _page_error(scope, status), status=status)

        return send_in_json


def _page_error(scope: Scope, status: int) -> TFserveError:
    path = scope["path"][:200]
    if status == 401:
        return TokenMissing()
    if status == 403:
        return Forbidden("This page is not allowed for you, or its form is too old. Load the page again.")
    if status == 404:
        return NotFound(f"There is no page {path!r}. GET /jobs/ lists jobs as JSON; POST / describes the API.")
    if status == 405:
        return MethodNotAllowed(f"{path!r} is a page. Use GET or HEAD.", "GET", "HEAD")
    if status == STATUS[Kind.OVERLOADED] and PAGE_ERROR in scope:
        return cast(TFserveError, scope[PAGE_ERROR])
    if status == 503:
        return Unavailable("This page is temporarily unavailable. Try again later.")
    return Internal() if status >= 500 else Invalid("Invalid page request.")


class Unknown:
    """404 for every other path: a page for browsers, for programs the nearest known path."""

    def __init__(self, known: list[str], pages: ASGIApp) -> None:
        self._known = known
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_navigation(scope):
            await self._pages(scope, receive, send)
            return
        path = scope["path"][:200]
        raise NotFound(f"No endpoint at {path!r}{nearest(path, self._known)}. POST / returns the API guide.")


def lifespan(line: SupervisorClient) -> Callable[[Router], AbstractAsyncContextManager[None]]:
    """Notifies the supervisor when the application has started."""

    @asynccontextmanager
    async def notifying(_: Router) -> AsyncIterator[None]:
        line.notify_ready()
        yield

    return notifying


if __name__ == "__main__":
    main()
