"""The workspace API as routes. Plain ASGI, since it is on the way of every call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from tfserve.errors import Internal, Invalid, TFserveError
from tfserve.http.answers import json_response, refusal
from tfserve.http.bodies import ClientGone, read_body
from tfserve.http.offload import is_heavy, offloaded
from tfserve.json_limits import check_text, without_bom
from tfserve.protocols.tfserve.endpoints import ENDPOINTS, Endpoint
from tfserve.protocols.tfserve.guide import guide
from tfserve.protocols.tfserve.handlers import Context
from tfserve.protocols.tfserve.reading import READS, Read
from tfserve.protocols.tfserve.requests import MAX_KEY, Reader, unknown_fields

log = logging.getLogger(__name__)

#: calls that wait longer are watched, so that a client that goes away does not keep its place
WATCH_FROM_S = 2.0


def routes(context: Context) -> list[BaseRoute]:
    """All routes but `/`, which several APIs share (see `asgi`)."""
    return [
        Route("/json_test/", JsonTest(context)),
        *(Route(endpoint.path, Call(endpoint, context)) for endpoint in ENDPOINTS),
        *(Route(each.path, Look(each, context)) for each in READS),
    ]


class _Answering:
    """An ASGI application that answers in JSON, whatever happens."""

    purpose = ""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        warnings: list[str] = []
        try:
            response = await self._respond(scope, receive, warnings)
        except ClientGone:
            return
        except TFserveError as error:
            response = refusal(error)
        except Exception:
            log.exception("while answering %s %s", scope["method"], scope["path"])
            response = refusal(Internal())
        await _with_warnings(response, warnings)(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, warnings: list[str]) -> Response:
        """The response; what its caller should know about the request is added to `warnings`."""
        raise NotImplementedError


class Call(_Answering):
    """POST to one endpoint of the table."""

    def __init__(self, endpoint: Endpoint, context: Context) -> None:
        super().__init__(context)
        self._endpoint = endpoint
        self._reader: Reader[Any] = Reader(endpoint.request)

    async def _respond(self, scope: Scope, receive: Receive, warnings: list[str]) -> Response:
        if scope["method"] != "POST":
            return wrong_verb(self._endpoint.path, self._endpoint.purpose)
        body = await read_body(scope, receive, self._context.settings)
        read = partial(self._reader.read, body, warnings)
        request = await offloaded(read) if is_heavy(body) else read()
        context = self._context
        if self._endpoint.submits and (key := _idempotency_key(scope)):
            context = replace(context, idempotency_key=key)
        if self._endpoint.submits and request.timeout > WATCH_FROM_S:
            return _done(await _unless_gone(self._endpoint.handler(context, request), receive))
        return _done(await self._endpoint.handler(context, request))


class JsonTest(_Answering):
    """The same JSON again."""

    async def _respond(self, scope: Scope, receive: Receive, _: list[str]) -> Response:
        if scope["method"] != "POST":
            return wrong_verb("/json_test/", "show that requests arrive as they were meant")
        body = await read_body(scope, receive, self._context.settings)
        return _done(msgspec.Raw(await _checked(body)))


class Guide(_Answering):
    """POST / with JSON or nothing."""

    async def _respond(self, scope: Scope, receive: Receive, _: list[str]) -> Response:
        body = await read_body(scope, receive, self._context.settings)
        await _checked(body)
        return _done(guide())


class Look(_Answering):
    """GET on one endpoint of the reading table."""

    def __init__(self, read: Read, context: Context) -> None:
        super().__init__(context)
        self._read = read

    async def _respond(self, scope: Scope, receive: Receive, warnings: list[str]) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            return refusal(Invalid(f"{self._read.path} takes GET: it is there to {self._read.purpose}."), status=405)
        request = Request(scope, receive)
        warnings += unknown_fields(request.query_params.keys(), [*self._read.parameters])
        return await self._read.handler(self._context, request)


async def _unless_gone(work: Awaitable[Any], receive: Receive) -> Any:
    """What the work returns; it is given up when the client goes away. The job that it waits for goes on."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def wrong_verb(path: str, purpose: str) -> Response:
    response = refusal(Invalid(f"{path} takes POST with a JSON object: it is there to {purpose}."), status=405)
    response.headers["Allow"] = "POST"
    return response


async def _checked(body: bytes) -> bytes:
    read = partial(checked_json, body)
    return await offloaded(read) if is_heavy(body) else read()


def checked_json(body: bytes) -> bytes:
    """The body, which is JSON, or {} when it is empty. Raises `Invalid`."""
    body = without_bom(body)
    check_text(body)
    body = body.strip() or b"{}"
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"The body must be JSON: {error}") from None
    return body


def _with_warnings(response: Response, warnings: list[str]) -> Response:
    """The same response, with a member `warnings` if there are any and it has the shape of the workspace API."""
    if not warnings or not bytes(getattr(response, "body", b"")).startswith(b'{"request_result":'):
        return response
    content = bytes(response.body).removesuffix(b"}") + b',"warnings":' + msgspec.json.encode(warnings) + b"}"
    headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
    return json_response(content, status=response.status_code, headers=headers)


def _done(result: Any) -> Response:
    return json_response(msgspec.json.encode({"request_result": True, "result": result}))


def _idempotency_key(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            key: str = value.decode("latin-1")
            if not 0 < len(key) <= MAX_KEY or not key.isprintable():
                raise Invalid(f"the Idempotency-Key must be 1 to {MAX_KEY} printable characters, it has {len(key)}")
            return key
    return None
