"""Methods of gRPC as HTTP requests: how a node of a cluster passes a call on to the head.

POST /cluster/grpc/<service>/<method> on the port for members, with the message as body. The response is the message,
or an error in the format of the workspace API.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from tfserve.access.principals import PRINCIPAL
from tfserve.errors import Invalid, NotFound
from tfserve.ipc.predictions import DEFAULT_URGENCY
from tfserve.web.api.endpoint import Context
from tfserve.web.http.bodies import read_body
from tfserve.web.http.guard import HOST_CHECKED
from tfserve.web.http.responses import send_bytes

if TYPE_CHECKING:  # it needs the gRPC libraries
    from tfserve.web.rpc import Unary

PATH = "/cluster/grpc/"
PROTOBUF = (b"content-type", b"application/x-protobuf")


class PassedOn:
    """A call that a node has passed on. The node keeps its deadline, and closes the request when it is over."""

    timeout_s: float | None = None
    is_heavy = True
    urgency = DEFAULT_URGENCY
    credentials: Mapping[str, str] = {}


class GrpcOverHttp:
    """An ASGI application. Raises `NotFound`, `Invalid`, `ScopeRequired`, and what the method raises."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = self._methods.get(scope["path"].removeprefix(PATH)) if HOST_CHECKED in scope else None
        if method is None or scope["method"] != "POST":
            raise NotFound(f"No endpoint at {scope['path'][:200]!r}. POST / returns the API guide.")
        if method.scope is not None:
            PRINCIPAL.get().require(method.scope)
        from google.protobuf.message import DecodeError

        try:
            request = method.request.FromString(await read_body(scope, receive, self._context.settings))
        except DecodeError as error:
            raise Invalid(f"The message is not a {method.request.DESCRIPTOR.name}: {error}") from None
        response = await method.answer(request, PassedOn())
        await send_bytes(scope, send, response.SerializeToString(), status=200, headers=(PROTOBUF,))

    @cached_property
    def _methods(self) -> dict[str, Unary]:
        """By service and name. The gRPC libraries are only imported when a node needs them."""
        from tfserve.web.api.grpc_services import all_services
        from tfserve.web.rpc import Unary

        return {
            f"{service.name}/{name}": method
            for service in all_services(self._context)
            for name, method in service.methods.items()
            if isinstance(method, Unary)
        }
