"""What all methods build on: sending a request with retries, and reading the response."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from tfserve_client.connection_errors import unreachable
from tfserve_client.errors import Invalid, UnexpectedResponse, Unreachable, from_response
from tfserve_client.flows import Flow, Pause, Request
from tfserve_client.retries import Retries

JSON = {"Content-Type": "application/json"}


class Core:
    """The base of all groups of methods. It describes requests, and sends none itself."""

    _retries: Retries
    url: str

    def _job(self, workspace: str, fields: Mapping[str, Any]) -> Any:
        """The handle of a job: a `Job` or an `AsyncJob`."""
        raise NotImplementedError

    def _send(self, request: Request) -> Flow[httpx.Response]:
        """The successful response. Raises `TFserveError`."""
        response = yield from self._respond(request)
        if response.is_error:
            raise from_response(response)
        return response

    def _respond(self, request: Request) -> Flow[httpx.Response]:
        """The response with any status, after retries. Raises `Unreachable`."""
        attempt = 0
        while True:
            try:
                response: httpx.Response = yield request
                pause = self._retries.after_response(response, attempt)
                if pause is None:
                    return response
            except httpx.TransportError as error:
                pause = self._retries.after_error(request, error, attempt)
                if pause is None:
                    raise self._unreachable(error) from error
            yield Pause(pause)
            attempt += 1

    def _post(
        self, path: str, fields: Any = None, *, wait_s: float | None = 0.0, headers: Mapping[str, str] | None = None,
        idempotent: bool = False,
    ) -> Flow[Any]:  # fmt: skip
        """The result of a request with a JSON body."""
        content = encoded({} if fields is None else fields)
        request = Request(
            "POST", path, content=content, headers={**JSON, **(headers or {})}, wait_s=wait_s, idempotent=idempotent
        )
        return (yield from self._result(request))

    def _get(self, path: str, *, wait_s: float = 0.0, **params: Any) -> Flow[Any]:
        """The result of a GET request with these query parameters, except those that are None."""
        return self._result(Request("GET", path, given(**params), wait_s=wait_s, idempotent=True))

    def _result(self, request: Request) -> Flow[Any]:
        """The result of any request."""
        return result_in((yield from self._send(request)))

    def _unreachable(self, error: httpx.TransportError) -> Unreachable:
        return unreachable(self.url, error)


def result_in(response: httpx.Response) -> Any:
    """The result of a successful response: what the envelope of the workspace API contains, or the whole JSON."""
    try:
        content = json.loads(response.content)
    except ValueError:
        raise UnexpectedResponse(
            f"Expected JSON from {response.url}, got {response.headers.get('content-type', 'no content type')}.",
            status=response.status_code,
        ) from None
    if isinstance(content, dict) and "request_result" in content:
        return content.get("result")
    return content


def encoded(value: Any) -> bytes:
    """JSON in UTF-8. Arrays, paths and bytes get the form that the server expects. NaN and infinities are literals."""
    return json.dumps(value, default=_plain, ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # arrays and scalars of numpy
        return value.tolist()
    if isinstance(value, bytes):
        import base64

        return {"b64": base64.b64encode(value).decode()}
    if hasattr(value, "__fspath__"):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    raise TypeError(f"A {type(value).__name__} can't be sent as JSON. Convert it to numbers, text, lists or objects.")


def given(**fields: Any) -> dict[str, Any]:
    """The fields that were given. The server fills in the defaults of the others."""
    return {name: value for name, value in fields.items() if value is not None}


def whole(seconds: float | None) -> int | None:
    """The seconds as the server takes them: as an integer, rounded up."""
    return None if seconds is None else math.ceil(seconds)


def in_path(name: str, *, safe: str = "") -> str:
    """A name as a part of a path. Raises `Invalid` for `.` and `..`, which would change the path."""
    if not {".", ".."}.isdisjoint(name.split("/")):
        raise Invalid(f"{name!r} contains '.' or '..'. Give the name or path without them.")
    return quote(name, safe=safe)
