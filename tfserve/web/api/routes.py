"""Routes for the endpoints that have a handler. Plain ASGI for speed, because every job passes through here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tfserve.access.principals import PRINCIPAL
from tfserve.errors import Invalid
from tfserve.web.api.endpoint import Context, Endpoint, Format
from tfserve.web.api.json_requests import unknown_fields
from tfserve.web.http.bodies import ClientGone, read_body
from tfserve.web.http.offload import offloaded_if_heavy
from tfserve.web.http.responses import WARNINGS, MethodNotAllowed, send_json

WATCH_FROM_S = 2.0
"""Requests with a longer wait are monitored, so that a client that disconnects frees its slot."""
RESOURCES = ("name", "path", "replicas", "projectDir", "projectId", "trainType", "scopes", "workspaces")
"""Request fields that the audit log names. Scripts, values and secrets are not among them."""
MAX_KEY = 200
"""Maximum length of an Idempotency-Key."""


def routes(endpoints: Iterable[Endpoint], context: Context) -> list[Route]:
    by_path: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        if endpoint.handler is not None:
            by_path.setdefault(endpoint.path.replace("{path}", "{path:path}"), []).append(endpoint)
    return [Route(path, PathApp(of_path, context)) for path, of_path in [*by_path.items(), *_aliases(by_path)]]


def _aliases(by_path: Mapping[str, list[Endpoint]]) -> list[tuple[str, list[Endpoint]]]:
    """The paths of single jobs, which the Location of a deferred prediction has, also with a slash at the end."""
    return [(f"{path}/", by_path[path]) for path in ("/jobs/{id}",) if path in by_path]


class PathApp:
    """The endpoints of one path as an ASGI application. It raises errors for `http.request_boundary`."""

    def __init__(self, endpoints: Sequence[Endpoint], context: Context) -> None:
        self._context = context
        self._endpoints = {endpoint.method: endpoint for endpoint in endpoints}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get("GET" if scope["method"] == "HEAD" else scope["method"])
        if endpoint is None:
            raise _method_not_allowed([*self._endpoints.values()])
        warnings: list[str] = []
        scope[WARNINGS] = warnings
        resource = dict(scope.get("path_params", ()))
        if endpoint.is_audited:
            with self._context.audit.action(endpoint.name, resource):
                result = await _result(endpoint, self._context, scope, receive, warnings, resource)
        else:
            result = await _result(endpoint, self._context, scope, receive, warnings, resource)
        if isinstance(result, Response):
            await result(scope, receive, send)
        else:
            await send_json(scope, send, _json(endpoint.format, result, warnings))


def _method_not_allowed(endpoints: Sequence[Endpoint]) -> MethodNotAllowed:
    usages = ", or ".join(
        f"{each.method} {each.path}{' with a JSON object' if each.read else ''} to {each.summary}" for each in endpoints
    )
    return MethodNotAllowed(f"Method not allowed. Use {usages}.", *(each.method for each in endpoints))


async def _result(
    endpoint: Endpoint,
    context: Context,
    scope: Scope,
    receive: Receive,
    warnings: list[str],
    resource: dict[str, Any],
) -> Any:
    """What the handler returns. Adds what the request is about to `resource`."""
    assert endpoint.handler is not None
    if endpoint.scope is not None:
        PRINCIPAL.get().require(endpoint.scope)
    if endpoint.read is None:
        request = Request(scope, receive)
        warnings += unknown_fields(request.query_params.keys(), [*endpoint.parameters])
        return await endpoint.handler(context, request)
    body = await read_body(scope, receive, context.settings)
    content = await offloaded_if_heavy(body, partial(endpoint.read, body, warnings))
    if endpoint.is_audited:
        resource.update({name: getattr(content, name) for name in RESOURCES if hasattr(content, name)})
    if not endpoint.submits_job:
        return await endpoint.handler(context, content)
    if key := idempotency_key(scope):
        context = replace(context, idempotency_key=key)
    job = endpoint.handler(context, content)
    return await (_unless_gone(job, receive) if content.timeout > WATCH_FROM_S else job)


def _json(form: Format, result: Any, warnings: list[str]) -> bytes:
    if form is not Format.ENVELOPE:
        return msgspec.json.encode(result)
    content = {"request_result": True, "result": result}
    return msgspec.json.encode(content | {"warnings": warnings} if warnings else content)


async def _unless_gone(work: Awaitable[Any], receive: Receive) -> Any:
    """The result of the work, which is cancelled if the client disconnects. The job it waits for keeps running."""
    working = asyncio.ensure_future(work)
    disconnecting = asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait([working, disconnecting], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        disconnecting.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def idempotency_key(scope: Scope) -> str | None:
    """The key of a request, if it has one. Raises `Invalid`."""
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            key: str = value.decode("latin-1")
            if not 0 < len(key) <= MAX_KEY or not key.isprintable():
                raise Invalid(f"the Idempotency-Key must be 1 to {MAX_KEY} printable characters, got {len(key)}")
            return key
    return None
