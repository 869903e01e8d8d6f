"""TensorFlow Serving's REST API as an ASGI application: /v1/models/… with predict, classify, regress and GET requests.

Plain ASGI on the path of predictions, because every object that a framework creates per request costs time 20,000 times
per second.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from tfserve.config import Settings
from tfserve.errors import Invalid
from tfserve.web.api.v1 import examples, image_requests, metadata, predict_json, request_examples, routing
from tfserve.web.api.v1.predict_json import Form
from tfserve.web.api.v1.routing import Address, Addresses
from tfserve.web.http.bodies import read_body
from tfserve.web.http.offload import are_heavy, is_heavy, offloaded
from tfserve.web.http.priority_headers import read_priority_headers
from tfserve.web.http.responses import send_json, send_png
from tfserve.web.http.server import CONNECTION, HttpConnection
from tfserve.web.predictions.live_models import Model, Models
from tfserve.web.predictions.request import Caller, Request, Result

METHODS = (b"allow", b"GET, HEAD, POST, OPTIONS")


class Wishes:
    """Options of a request (priority, timeout), and the client that waits for the response."""

    __slots__ = ("caller", "timeout_s", "urgency")

    def __init__(self, urgency: int, timeout_s: float | None, caller: Caller) -> None:
        self.urgency = urgency
        self.timeout_s = timeout_s
        self.caller = caller

    def put_on(self, request: Request) -> Request:
        request.urgency = self.urgency
        request.timeout_s = self.timeout_s
        request.caller = self.caller
        return request


class V1:
    """Everything under /v1/. Raises errors for `http.request_boundary`."""

    def __init__(self, models: Models, settings: Settings) -> None:
        self._models = models
        self._settings = settings
        self._addresses = Addresses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            await _tell_methods(scope, send)
            return
        address = self._addresses.read(scope)
        if scope["method"] == "POST":
            content = await self._act(address, scope, receive)
        else:
            content = orjson.dumps(self._describe(address, scope))
        await (send_png if content.__class__ is image_requests.Png else send_json)(scope, send, content)

    async def _act(self, address: Address, scope: Scope, receive: Receive) -> bytes:
        """The response to predict, classify or regress. Raises `TFserveError`, `ClientGone`, `CallerGone`."""
        model = routing.find(self._models, address)
        headers = scope["headers"]
        urgency, timeout_s = read_priority_headers(headers)
        body = await read_body(scope, receive, self._settings, model.max_body_bytes)
        caller = Caller()
        wishes = Wishes(urgency, timeout_s, caller)
        connection: HttpConnection | None = scope.get(CONNECTION)
        if connection is None:
            return await self._answer(address, model, wishes, scope, body)
        connection.on_lost = caller.gone
        try:
            return await self._answer(address, model, wishes, scope, body)
        finally:
            connection.on_lost = None

    async def _answer(self, address: Address, model: Model, wishes: Wishes, scope: Scope, body: bytes) -> bytes:
        if address.verb != "predict":
            return await _examined(address.verb, model, wishes, body)
        if image_requests.is_file(scope):
            request, form = await image_requests.request_of_body(model, scope, body), Form.PICTURES
        else:
            read = partial(predict_json.read, body, model)
            request, form = await offloaded(read) if is_heavy(body) else read()
        request.pinned = address.version is not None
        result = await model.predict(wishes.put_on(request))
        if form is Form.PICTURES:
            return image_requests.write(model, result, scope)
        rows = len(next(iter(request.inputs.values()))) if form is Form.ROWS else None
        write = partial(predict_json.write, result, rows=rows)
        return await offloaded(write) if are_heavy(result.outputs.values()) else write()

    def _describe(self, address: Address, scope: Scope) -> dict[str, Any]:
        if address.verb == "list":
            return metadata.model_list(self._models)
        if address.verb == "status":
            return metadata.status(routing.versions(self._models, address))
        model = routing.find(self._models, address)
        if address.verb == "metadata":
            return metadata.metadata(model)
        return request_examples.example(model, _origin(scope))


async def _examined(verb: str, model: Model, wishes: Wishes, body: bytes) -> bytes:
    read = partial(examples.read, body, model, verb)
    request = await offloaded(read) if is_heavy(body) else read()
    (given,) = request.inputs.values()
    result: Result = await model.predict(wishes.put_on(request))
    write = partial(examples.write, result, verb, len(given))
    return await offloaded(write) if are_heavy(result.outputs.values()) else write()


def _origin(scope: Scope) -> str:
    host = dict(scope["headers"]).get(b"host", b"127.0.0.1").decode("latin-1")
    return f"{scope['scheme']}://{host}"


async def _tell_methods(scope: Scope, send: Send) -> None:
    """The CORS preflight request. Returns the methods; the guard refuses the actual cross-origin request.

    Raises `Invalid` without an Origin, as TensorFlow Serving does.
    """
    if not any(name == b"origin" for name, _ in scope["headers"]):
        raise Invalid("OPTIONS requires an Origin header.")
    await send_json(scope, send, b"{}", headers=[METHODS])
