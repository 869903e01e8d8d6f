"""The web process of a node: predictions with the models that the head announces; the head answers everything else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from tfserve.access.principals import EVERYBODY, PRINCIPAL, Principal
from tfserve.cluster.membership import Membership
from tfserve.config import load
from tfserve.errors import NotFound, Unavailable
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import GetHead, HeadChanged, HeadState, IsReady, Message, Request
from tfserve.node.forwarding import Forwarder, HeadPort
from tfserve.node.routing import is_local
from tfserve.web.access.authentication import Authentication
from tfserve.web.access.authenticator import Authenticator
from tfserve.web.access.token_limits import TokenLimits
from tfserve.web.api.endpoint import Context
from tfserve.web.api.grpc_over_http import PATH
from tfserve.web.app import Layers, Prefixes, Program, lifespan, main
from tfserve.web.http.cross_origin import Preflights
from tfserve.web.http.guard import Guard
from tfserve.web.http.server import GRACEFUL_S
from tfserve.web.predictions.live_models import LiveModels
from tfserve.web.supervisor_client import SupervisorClient

if TYPE_CHECKING:  # it needs the gRPC libraries
    from tfserve.web.rpc import Service

R = TypeVar("R")


class NodeClient(SupervisorClient):
    """The line to the main process of the node, which passes on to the head what concerns the head."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.models: LiveModels | None = None
        self.is_connected = False
        self.left_at: float | None = None
        """When the node began to stop, on the clock of the event loop."""

    async def ask(self, request: Request[R]) -> R:
        if isinstance(request, IsReady):
            return self._is_ready()  # type: ignore[return-value]  # the response of `IsReady`
        return await super().ask(request)

    def _is_ready(self) -> bool:
        """Whether requests can be answered: by the head, or at least by a model while the head is away."""
        if self.left_at is not None:
            return False
        return self.is_connected or (self.models is not None and _any_is_ready(self.models))


class NodeProgram(Program):
    """What the web process of a node serves."""

    _client: NodeClient

    def __init__(self, membership: Membership) -> None:
        self._forwarder = Forwarder(membership.client_context())

    def client(self, connection: Connection) -> NodeClient:
        self._client = NodeClient(connection)
        return self._client

    async def begin(self, line: SupervisorClient, models: LiveModels) -> None:
        self._client.models = models
        self._drain_s = load().drain_s
        self._apply(await line.ask(GetHead()))

    def layers(self, context: Context, authenticator: Authenticator, limits: TokenLimits) -> Layers:
        from tfserve.web.api.v1.rest import V1  # it needs Django, for what is not served here
        from tfserve.web.api.v2.rest import V2

        v1, v2 = V1(context), V2(context)
        local = Prefixes({"/v1/": v1, "/V1/": v1, "/v2": v2, "/v2/": v2}, _nothing)
        authentication = Authentication(local, authenticator, limits, _no_session, _nothing)
        app: ASGIApp = NodeRouter(authentication, self._forwarder, Router(lifespan=lifespan(context.line)))
        settings = context.settings
        guard = Guard(Preflights(app, settings.origins) if settings.origins else app, settings)
        return Layers(guard, guard, authentication, v1, v2)

    def services(self, context: Context) -> list[Service]:
        from tfserve.node.grpc_forwarding import passing_on

        return [passing_on(each, self._forwarder) for each in super().services(context)]

    def grace_s(self) -> float:
        """What is left of the time that running work has when the node stops, but enough for a prediction."""
        left_at = self._client.left_at
        passed_s = asyncio.get_running_loop().time() - left_at if left_at is not None else 0.0
        return max(GRACEFUL_S, self._drain_s - passed_s)

    async def end(self) -> None:
        await self._forwarder.close()

    async def handle(self, message: Message) -> None:
        if isinstance(message, HeadChanged):
            self._apply(message.head)
        else:
            await super().handle(message)

    def _apply(self, head: HeadState) -> None:
        parts = urlsplit(head.url)
        if parts.hostname and parts.port:
            self._forwarder.target = HeadPort(parts.hostname, parts.port)
        self._client.is_connected = head.is_connected
        if head.is_left and self._client.left_at is None:
            self._client.left_at = asyncio.get_running_loop().time()


class NodeRouter:
    """Passes each request to the node's own applications or to the head."""

    def __init__(self, local: Authentication, forwarder: Forwarder, start: ASGIApp) -> None:
        self._local = local
        self._forwarder = forwarder
        self._start = start

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._start(scope, receive, send)
        elif scope["path"].startswith(PATH):  # for nodes, not for their clients
            await _nothing(scope, receive, send)
        elif is_local(scope, needs_token=self._local.is_required):
            await self._local(scope, receive, send)
        else:
            await self._forwarder(scope, receive, send)


def _any_is_ready(models: LiveModels) -> bool:
    token = PRINCIPAL.set(EVERYBODY)  # probes have no token, and see no model
    try:
        return any(model.is_ready for model in models)
    finally:
        PRINCIPAL.reset(token)


async def _no_session(_: Scope) -> Principal | None:
    """The head knows the sessions, so requests that may have one are forwarded."""
    return None


async def _nothing(scope: Scope, _: Receive, __: Send) -> None:
    raise NotFound(f"No endpoint at {scope['path'][:200]!r}.")


def _program() -> NodeProgram:
    membership = Membership.of_environment()
    if membership is None:
        raise Unavailable("this process must be started by `tfserve node`")
    return NodeProgram(membership)


if __name__ == "__main__":
    main(_program())
