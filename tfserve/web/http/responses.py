"""Answers in JSON, and the one table from kinds of error to HTTP's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Message, Scope, Send

from tfserve.errors import Failure, Kind, TFserveError
from tfserve.web.http.access_log import CURRENT
from tfserve.web.http.bodies import BodyTooSlow
from tfserve.web.http.request_ids import HEADER, REQUEST_ID
from tfserve.web.http.server import CONNECTION, Header, HttpConnection

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
REQUEST_TIMEOUT = 408
RETRY_AFTER_S = {Kind.OVERLOADED: "5", Kind.UNAVAILABLE: "1"}
PROTOCOLS = {"/v1/": "v1", "/V1/": "v1", "/v2": "v2", "/v2/": "v2"}
"""The prediction protocols by the first characters of their paths."""
TRAINING = ("/tasks/", "/training/")
"""The paths of the training API, which writes errors as the prediction protocols do."""

#: how many answers of this process were errors, by API and status
error_counts: dict[str, dict[str, int]] = {}

CLOSE: Header = (b"connection", b"close")
JSON_TYPE: Header = (b"content-type", b"application/json")
_PNG_TYPE: Header = (b"content-type", b"image/png")


async def send_json(
    scope: Scope, send: Send, content: bytes, *, status: int = 200, headers: Sequence[Header] = ()
) -> None:
    """The same as `json_response`, without its objects: for the way of a prediction."""
    await send_bytes(scope, send, content, status=status, headers=(JSON_TYPE, *headers))


async def send_bytes(scope: Scope, send: Send, content: bytes, *, status: int, headers: Sequence[Header]) -> None:
    """A whole answer of any type, in one piece if the connection can."""
    headers = ((b"content-length", str(len(content)).encode()), *headers)
    connection: HttpConnection | None = scope.get(CONNECTION)
    if connection is not None and CLOSE not in headers:
        with_id = (*headers, (HEADER, REQUEST_ID.get()))  # `Entrance` does not see what does not go through `send`
        if connection.answer(scope, status, with_id, content):
            _note(scope, status, len(content))
            return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def send_png(scope: Scope, send: Send, content: bytes) -> None:
    await send_bytes(scope, send, content, status=200, headers=(_PNG_TYPE,))


async def send_error(scope: Scope, send: Send, error: TFserveError, *, status: int | None = None) -> None:
    """An error in the shape that all but the workspace API share: {"error": "<text>"}."""
    headers = [(name.lower().encode(), value.encode()) for name, value in error_headers(error).items()]
    content = msgspec.json.encode({"error": error.message})
    await send_json(scope, send, content, status=status or status_of(error), headers=headers)


async def refuse(scope: Scope, send: Send, error: TFserveError) -> None:
    """An error in the shape of the API that the path belongs to."""
    if scope["path"][:4] in PROTOCOLS or scope["path"].startswith(TRAINING):
        await send_error(scope, send, error)
    else:
        await refusal(error)(scope, _nothing, send)


def count_error(scope: Scope, status: int) -> None:
    statuses = error_counts.setdefault(PROTOCOLS.get(scope["path"][:4], "other"), {})
    statuses[str(status)] = statuses.get(str(status), 0) + 1


def _note(scope: Scope, status: int, size: int) -> None:
    if status >= 400:
        count_error(scope, status)
    if (entry := CURRENT.get()) is not None:
        entry.status, entry.bytes_out = status, size


def json_response(content: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(content, status_code=status, headers=headers, media_type="application/json")


def refusal(error: TFserveError, *, status: int | None = None) -> Response:
    """An error in the shape of the workspace API, which is also the server's own."""
    failure: Failure = error.to_failure()
    content: dict[str, Any] = {"request_result": False, "result": failure.message, "error": failure}
    return json_response(
        msgspec.json.encode(content, enc_hook=str),
        status=status or status_of(error),
        headers=error_headers(error),
    )


def status_of(error: TFserveError) -> int:
    """HTTP's number for an error: that of its kind, but for one that only HTTP knows."""
    return REQUEST_TIMEOUT if isinstance(error, BodyTooSlow) else STATUS[error.kind]


def error_headers(error: TFserveError) -> dict[str, str]:
    headers = {"Retry-After": RETRY_AFTER_S[error.kind]} if error.kind in RETRY_AFTER_S else {}
    if error.kind == Kind.TOO_LARGE or isinstance(error, BodyTooSlow):
        # The rest of the body is not read, so the connection is of no more use.
        headers["Connection"] = CLOSE[1].decode()
    return headers


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
