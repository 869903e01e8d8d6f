"""JSON responses, and the one conversion of an error to HTTP: its status, headers and content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.types import Scope, Send

from tfserve.errors import Internal, Invalid, Kind, TFserveError
from tfserve.web.http.access_log import CURRENT
from tfserve.web.http.bodies import BodyTooSlow
from tfserve.web.http.connection import CONNECTION, HttpConnection
from tfserve.web.http.request_ids import HEADER, REQUEST_ID
from tfserve.web.http.response_bytes import CLOSE, Header

STATUS = {
    Kind.INVALID: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.TOO_LARGE: 413,
    Kind.UNSUPPORTED: 501,
    Kind.OVERLOADED: 429,
    Kind.UNAVAILABLE: 503,
    Kind.TIMED_OUT: 504,
    Kind.OUT_OF_SPACE: 507,
    Kind.INTERNAL: 500,
}
METHOD_NOT_ALLOWED, REQUEST_TIMEOUT, BAD_GATEWAY = 405, 408, 502
"""The statuses of errors that exist only in HTTP."""
RETRY_AFTER_S = {Kind.OVERLOADED: b"5", Kind.UNAVAILABLE: b"1"}

PROTOCOLS = {"/v1/": "v1", "/V1/": "v1", "/v2": "v2", "/v2/": "v2"}
"""The prediction protocols by the first characters of their paths."""
TRAINING = ("/tasks/", "/training/")
"""The paths of the training API, except `/`."""
TRAINING_REQUEST = "tfserve.training_request"
"""The key that a scope has if its path is `/` and it belongs to the training API."""
WARNINGS = "tfserve.warnings"
"""The key of a scope for the warnings about its request, which responses of the workspace API contain."""

ORIGIN_HEADERS = "tfserve.origin_headers"
"""The key of a scope for headers of its response that the `send` of the application adds otherwise."""

PAGE_ERROR = "tfserve.page_error"
"""The key of the scope of a page for the error that it shows, for clients that get it as JSON instead."""

CHECK_SENDER = "tfserve.check_sender"
"""The key of a scope for a coroutine function that raises an error if the sender may not get a response any more."""

#: number of error responses of this process by API and status
error_counts: dict[str, dict[str, int]] = {}

JSON_TYPE: Header = (b"content-type", b"application/json")
PNG_TYPE: Header = (b"content-type", b"image/png")


JSON: tuple[Header, ...] = (JSON_TYPE,)
"""The headers of most responses."""


class RestResponse(msgspec.Struct, frozen=True, gc=False):
    """A complete HTTP response. Its length is added when it is sent."""

    body: bytes
    headers: tuple[Header, ...] = JSON
    status: int = 200


class ResponseLost(Internal):
    """The server that this one forwarded the request to did not complete its response."""


class MethodNotAllowed(Invalid):
    """The path exists, but not for this method."""

    def __init__(self, message: str, *allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


async def send_json(
    scope: Scope, send: Send, content: bytes, *, status: int = 200, headers: Sequence[Header] = ()
) -> None:
    """Send JSON without creating Starlette's response objects, which the path of a prediction can't afford."""
    await send_bytes(scope, send, content, status=status, headers=(JSON_TYPE, *headers))


async def send_bytes(scope: Scope, send: Send, content: bytes, *, status: int, headers: Sequence[Header]) -> None:
    """Send a complete response of any type, in one write if the connection supports it."""
    check = scope.get(CHECK_SENDER)
    if check is not None:
        await check()
    headers = ((b"content-length", str(len(content)).encode()), *headers)
    connection: HttpConnection | None = scope.get(CONNECTION)
    if connection is not None and CLOSE not in headers:
        # middleware only sees what goes through `send`
        with_id = (*headers, (HEADER, REQUEST_ID.get()), *scope.get(ORIGIN_HEADERS, ()))
        if connection.respond(scope, status, with_id, content):
            _note(scope, status, len(content))
            return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def send_response(scope: Scope, send: Send, response: RestResponse) -> None:
    await send_bytes(scope, send, response.body, status=response.status, headers=response.headers)


# --- errors


async def send_error(scope: Scope, send: Send, error: TFserveError, *, status: int | None = None) -> None:
    """Send an error in the format of the API that the request belongs to."""
    await send_response(scope, send, error_response(scope, error, status=status))


def error_response(scope: Scope, error: TFserveError, *, status: int | None = None) -> RestResponse:
    """An error in the format of the API that the request belongs to."""
    content = msgspec.json.encode(_error_content(scope, error), enc_hook=str)
    return RestResponse(content, (JSON_TYPE, *error_headers(error)), status or status_of(error))


def _error_content(scope: Scope, error: TFserveError) -> dict[str, Any]:
    failure = error.to_failure()
    if scope["path"][:4] in PROTOCOLS:
        return {"error": failure.message}
    if scope["path"].startswith(TRAINING) or TRAINING_REQUEST in scope:
        return {**error.detail, "error": failure.message}
    content = {"request_result": False, "result": failure.message, "error": failure}
    return content | ({"warnings": scope[WARNINGS]} if scope.get(WARNINGS) else {})


def status_of(error: TFserveError) -> int:
    """The HTTP status of an error: that of its kind, except for errors that exist only in HTTP."""
    if isinstance(error, MethodNotAllowed):
        return METHOD_NOT_ALLOWED
    if isinstance(error, ResponseLost):
        return BAD_GATEWAY
    return REQUEST_TIMEOUT if isinstance(error, BodyTooSlow) else STATUS[error.kind]


def error_headers(error: TFserveError) -> list[Header]:
    headers = [(b"retry-after", RETRY_AFTER_S[error.kind])] if error.kind in RETRY_AFTER_S else []
    if error.kind == Kind.UNAUTHENTICATED:
        headers.append((b"www-authenticate", b'Bearer realm="tfserve"'))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    if error.kind == Kind.TOO_LARGE or isinstance(error, BodyTooSlow):
        headers.append(CLOSE)  # the rest of the body is not read, so the connection can't be reused
    return headers


def count_error(scope: Scope, status: int) -> None:
    statuses = error_counts.setdefault(PROTOCOLS.get(scope["path"][:4], "other"), {})
    statuses[str(status)] = statuses.get(str(status), 0) + 1


def _note(scope: Scope, status: int, size: int) -> None:
    if status >= 400:
        count_error(scope, status)
    if (entry := CURRENT.get()) is not None:
        entry.status, entry.bytes_out = status, size
