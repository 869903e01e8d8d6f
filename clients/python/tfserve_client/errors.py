"""The errors of the client: one class for each kind of error of the server, and those that only a client has.

TFserveError
├─ Invalid, Unauthenticated, Forbidden, NotFound, Conflict, TooLarge, Unsupported, Overloaded, Unavailable,
│  TimedOut, OutOfSpace, Internal     the server refused the request; the names are those of the server's errors
├─ UnexpectedResponse                 something else responded, such as a proxy
├─ Unreachable                        no response; also a ConnectionError
├─ JobTimeout                         a job or training did not end in time; also a TimeoutError
└─ JobFailed                          from `raise_for_error` of a job that failed, was cancelled or lost
"""

from __future__ import annotations

import json
from typing import Any

import httpx

STATUSES = {
    400: "invalid", 401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "invalid", 408: "timed_out",
    409: "conflict", 413: "too_large", 429: "overloaded", 500: "internal", 501: "unsupported", 503: "unavailable",
    504: "timed_out", 507: "out_of_space",
}  # fmt: skip
"""The kind of an error whose response does not name it, as in v1, v2 and the training API."""
MAX_TEXT = 500
"""Characters of a response of another program that its error quotes."""


class TFserveError(Exception):
    """Something went wrong. `message` is the sentence of the server.

    `code` is the kind of error (`not_found`), `status` the HTTP status (0 without a response), `field` the field of
    the request that is at fault, if the server names one, and `detail` what else the server sent. The error of a
    script has `type` and `traceback` too.
    """

    code = "internal"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int = 0,
        type: str | None = None,  # noqa: A002
        traceback: str | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.status = status
        self.type = type
        self.traceback = traceback
        self.detail = detail or {}

    @property
    def field(self) -> str | None:
        """The field of the request that is at fault, if the server names one."""
        field = self.detail.get("field")
        return field if isinstance(field, str) else None


class Invalid(TFserveError):
    """The request can't be understood, or a value is out of range."""

    code = "invalid"


class Unauthenticated(TFserveError):
    """A token is missing or wrong."""

    code = "unauthenticated"


class Forbidden(TFserveError):
    """The token does not allow this."""

    code = "forbidden"


class NotFound(TFserveError):
    """A workspace, job, model, file or task does not exist."""

    code = "not_found"


class Conflict(TFserveError):
    """Valid, but not possible in the current state."""

    code = "conflict"


class TooLarge(TFserveError):
    """Larger than the server accepts."""

    code = "too_large"


class Unsupported(TFserveError):
    """Valid, but not supported by this server."""

    code = "unsupported"


class Overloaded(TFserveError):
    """A limit of the server is reached."""

    code = "overloaded"


class Unavailable(TFserveError):
    """Not now: the server or the model is starting or stopping, or a queue is full."""

    code = "unavailable"


class TimedOut(TFserveError):
    """The server stopped the work because it took too long."""

    code = "timed_out"


class OutOfSpace(TFserveError):
    """The server's disk is full, or a model does not fit into memory."""

    code = "out_of_space"


class Internal(TFserveError):
    """An error of the server. Its log has the details."""

    code = "internal"


class UnexpectedResponse(TFserveError):
    """The response is not from TFserve, but from a proxy for example."""

    code = "unexpected_response"


class Unreachable(TFserveError, ConnectionError):
    """No response: nothing listens at the address, the connection broke, or the response timed out."""

    code = "unreachable"
    is_explained = False
    """Whether the message says what to do about it, such as for a certificate that is not trusted."""


class JobTimeout(TFserveError, TimeoutError):
    """A job or training did not end within the timeout. It keeps running."""

    code = "job_timeout"


class JobFailed(TFserveError):
    """A job failed, was cancelled or lost. `code` says which, and `traceback` is that of a script."""

    code = "job_failed"


BY_CODE: dict[str, type[TFserveError]] = {
    each.code: each
    for each in (
        Invalid, Unauthenticated, Forbidden, NotFound, Conflict, TooLarge, Unsupported, Overloaded, Unavailable,
        TimedOut, OutOfSpace, Internal,
    )
}  # fmt: skip


def from_response(response: httpx.Response) -> TFserveError:
    """The error in a response, in the format of any of the server's APIs."""
    content = _json(response)
    found = content.get("error") if isinstance(content, dict) else None
    if isinstance(found, dict):  # {"request_result": false, "error": {…}}
        code, message = str(found.get("code", "")), str(found.get("message", ""))
        more = {name: found.get(name) for name in ("type", "traceback", "detail")}
        return _error(code, message, response.status_code, **more)
    if isinstance(found, str):  # {"error": message, …}
        detail = {name: value for name, value in content.items() if name != "error"}
        return _error(STATUSES.get(response.status_code, ""), found, response.status_code, detail=detail)
    text = " ".join(response.text[:MAX_TEXT].split()) or response.reason_phrase
    message = f"Expected a response of TFserve from {response.url}, got status {response.status_code}: {text}"
    return UnexpectedResponse(message, status=response.status_code)


def _error(code: str, message: str, status: int, **more: Any) -> TFserveError:
    known = BY_CODE.get(code) or BY_CODE.get(STATUSES.get(status, ""), Internal)
    return known(message, code=code or None, status=status, **more)


def _json(response: httpx.Response) -> Any:
    try:
        return json.loads(response.content)
    except ValueError:
        return None
