"""TensorFlow Serving's REST API as an ASGI application: /v1/models/… with predict, classify, regress and GET requests.

Plain ASGI on the path of predictions, because every object that a framework creates per request costs time 20,000 times
per second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from tfserve.access.principals import PREDICT, PRINCIPAL
from tfserve.errors import Invalid
from tfserve.web.api.deferred import defer
from tfserve.web.api.endpoint import Context
from tfserve.web.api.known_model import KnownModel
from tfserve.web.api.v1 import core, metadata, request_examples
from tfserve.web.api.v1.core import Address
from tfserve.web.api.v1.predict_json import PROTOCOL
from tfserve.web.api.v1.rest_predict import respond
from tfserve.web.api.v1.routing import Addresses
from tfserve.web.http.bodies import read_body
from tfserve.web.http.exchange import RequestContext
from tfserve.web.http.forwarded import origin_of
from tfserve.web.http.prefer import read_deferral
from tfserve.web.http.priority_headers import read_priority_headers
from tfserve.web.http.responses import RestResponse, send_bytes, send_json, send_response
from tfserve.web.predictions.request import Caller, Options, caller_of

METHODS = (b"allow", b"GET, HEAD, POST, OPTIONS")


class V1:
    """Everything under /v1/. Raises errors for `http.request_boundary`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._models = context.models
        self._settings = context.settings
        self._addresses = Addresses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            await _send_methods(scope, send)
            return
        PRINCIPAL.get().require(PREDICT)
        address = self._addresses.read(scope)
        if scope["method"] == "POST":
            if (deferral := read_deferral(scope["headers"])) is not None:
                model = core.find(self._models, address)
                later = await defer(self._context, scope, receive, model, PROTOCOL, deferral)
                await send_bytes(scope, send, later.body, status=later.status, headers=later.headers)
                return
            response = await self._post(address, scope, receive)
        else:
            response = RestResponse(orjson.dumps(self._describe(address, scope)))
        await send_response(scope, send, response)

    async def _post(self, address: Address, scope: Scope, receive: Receive) -> RestResponse:
        """The response to predict, classify or regress. Raises `TFserveError`, `ClientGone`, `CallerGone`."""
        model = core.find(self._models, address)
        head = RequestContext(dict(scope["headers"]), scope["query_string"])
        with caller_of(scope) as caller:
            options = Options(PROTOCOL, *read_priority_headers(head.headers), address.is_pinned, caller)
            body = await read_body(scope, receive, self._settings, model.max_body_bytes)
            return await respond(address.verb, model, options, head, body)

    def answer(self, scope: Scope, head: RequestContext) -> Callable[[bytes, Caller], Awaitable[RestResponse]]:
        """The same for bodies that have arrived, of requests with this head, which do not want to be deferred.

        Raises the errors of the head.
        """
        address = self._addresses.read(scope)
        known = KnownModel(self._models, self._settings, partial(core.find, self._models, address))
        known.take(b"")
        urgency, timeout_s = read_priority_headers(head.headers)
        verb, is_pinned = address.verb, address.is_pinned

        def answer(body: bytes, caller: Caller) -> Awaitable[RestResponse]:
            model = known.take(body)
            return respond(verb, model, Options(PROTOCOL, urgency, timeout_s, is_pinned, caller), head, body)

        return answer

    def _describe(self, address: Address, scope: Scope) -> dict[str, Any]:
        if address.verb == "list":
            return metadata.model_list(self._models)
        if address.verb == "status":
            return metadata.status(core.versions(self._models, address))
        model = core.find(self._models, address)
        if address.verb == "metadata":
            return metadata.metadata(model)
        return request_examples.example(model, origin_of(scope))


async def _send_methods(scope: Scope, send: Send) -> None:
    """The CORS preflight request. Returns the methods; the guard refuses the actual cross-origin request.

    Raises `Invalid` without an Origin, as TensorFlow Serving does.
    """
    if not any(name == b"origin" for name, _ in scope["headers"]):
        raise Invalid("OPTIONS requires an Origin header.")
    await send_json(scope, send, b"{}", headers=[METHODS])
