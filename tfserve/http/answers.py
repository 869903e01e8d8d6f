"""Answers in JSON, and the one table from kinds of error to HTTP's numbers."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from tfserve.errors import Failure, Kind, TFserveError

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
RETRY_AFTER_S = {Kind.OVERLOADED: "5", Kind.UNAVAILABLE: "1"}


def json_response(content: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(content, status_code=status, headers=headers, media_type="application/json")


def refusal(error: TFserveError, *, status: int | None = None) -> Response:
    """An error in the shape of the workspace API, which is also the server's own."""
    failure: Failure = error.to_failure()
    content: dict[str, Any] = {"request_result": False, "result": failure.message, "error": failure}
    headers = {"Retry-After": RETRY_AFTER_S[error.kind]} if error.kind in RETRY_AFTER_S else {}
    if error.kind == Kind.TOO_LARGE:
        # The rest of the body is not read, so the connection is of no more use.
        headers["Connection"] = "close"
    return json_response(
        msgspec.json.encode(content, enc_hook=str), status=status or STATUS[error.kind], headers=headers
    )
