"""TensorFlow Serving's REST API as an ASGI application: /v1/models/… with predict, classify, regress and the reads.

Plain ASGI on the way of a prediction, since every object that a framework makes per request is paid 20,000 times a
second.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from tfserve.config import Settings
from tfserve.errors import Internal, Invalid, TFserveError
from tfserve.http.answers import send_error, send_json, send_png
from tfserve.http.bodies import ClientGone, read_body
from tfserve.http.offload import are_heavy, is_heavy, offloaded
from tfserve.http.server import CONNECTION, HttpConnection
from tfserve.http.wishes import read_wishes
from tfserve.protocols.tfserving import addresses, describing, examples, pasting, pictures, predicting
from tfserve.protocols.tfserving.addresses import Address, Addresses
from tfserve.protocols.tfserving.predicting import Form
from tfserve.serving.models import Model, Models
from tfserve.serving.prediction import Caller, CallerGone, Request, Result

log = logging.getLogger(__name__)

METHODS = (b"allow", b"GET, HEAD, POST, OPTIONS")


class Wishes:
    """How a request wants to be treated, and who waits for its answer."""

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
    """Everything under /v1/."""

    def __init__(self, models: Models, settings: Settings) -> None:
        self._models = models
        self._settings = settings
        self._addresses = Addresses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["method"] == "OPTIONS":
                await _tell_methods(scope, send)
                return
            address = self._addresses.read(scope)
            if scope["method"] == "POST":
                content = await self._act(address, scope, receive)
            else:
                content = orjson.dumps(self._describe(address, scope))
            await (send_png if content.__class__ is pictures.Png else send_json)(scope, send, content)
        except (ClientGone, CallerGone):
            return
        except TFserveError as error:
            await send_error(scope, send, error)
        except Exception:
            log.exception("%s %s broke", scope["method"], scope["path"])
            await send_error(scope, send, Internal())

    async def _act(self, address: Address, scope: Scope, receive: Receive) -> bytes:
        """The answer to predict, classify or regress. Raises `TFserveError`, `ClientGone`, `CallerGone`."""
        model = addresses.find(self._models, address)
        headers = scope["headers"]
        urgency, timeout_s = read_wishes(headers)
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
        if pictures.is_file(scope):
            request, form = await pictures.request_of_body(model, scope, body), Form.PICTURES
        else:
            read = partial(predicting.read, body, model)
            request, form = await offloaded(read) if is_heavy(body) else read()
        request.pinned = address.version is not None
        result = await model.predict(wishes.put_on(request))
        if form is Form.PICTURES:
            return pictures.write(model, result, scope)
        rows = len(next(iter(request.inputs.values()))) if form is Form.ROWS else None
        write = partial(predicting.write, result, rows=rows)
        return await offloaded(write) if are_heavy(result.outputs.values()) else write()

    def _describe(self, address: Address, scope: Scope) -> dict[str, Any]:
        if address.verb == "list":
            return describing.model_list(self._models)
        if address.verb == "status":
            return describing.status(addresses.versions(self._models, address))
        model = addresses.find(self._models, address)
        if address.verb == "metadata":
            return describing.metadata(model)
        return pasting.example(model, _origin(scope))


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
    """What a browser asks before a request from another origin. It learns the methods; the door refuses the request.

    Raises `Invalid` without an Origin, as TensorFlow Serving does.
    """
    if not any(name == b"origin" for name, _ in scope["headers"]):
        raise Invalid("OPTIONS needs an Origin header.")
    await send_json(scope, send, b"{}", headers=[METHODS])
