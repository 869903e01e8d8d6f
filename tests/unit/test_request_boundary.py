"""Every error that an application raises becomes a response in the format of the API that the request is for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from tfserve.errors import Invalid, Overloaded, TFserveError
from tfserve.web.http.bodies import BodyTooLarge, BodyTooSlow, ClientGone
from tfserve.web.http.request_boundary import RequestBoundary
from tfserve.web.http.responses import TRAINING_REQUEST, WARNINGS, MethodNotAllowed


def response_to(path: str, error: BaseException, **keys: Any) -> list[Message]:
    """The messages that are sent if the application raises the error."""
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "client": None, **keys}
    sent: list[Message] = []

    async def app(_: Scope, __: Receive, ___: Send) -> None:
        raise error

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(RequestBoundary(app)(scope, receive, send))
    return sent


ERROR = Invalid("x must be a number", field="x")


@pytest.mark.parametrize(
    ("path", "keys", "content"),
    [
        ("/v1/models/m", {}, {"error": "x must be a number"}),
        ("/v2", {}, {"error": "x must be a number"}),
        ("/v2/models/m", {}, {"error": "x must be a number"}),
        ("/tasks/1", {}, {"field": "x", "error": "x must be a number"}),
        ("/", {TRAINING_REQUEST: True}, {"field": "x", "error": "x must be a number"}),
        (
            "/jobs/",
            {WARNINGS: ["unknown field 'y'"]},
            {
                "request_result": False,
                "result": "x must be a number",
                "error": {"code": "invalid", "message": "x must be a number", "detail": {"field": "x"}},
                "warnings": ["unknown field 'y'"],
            },
        ),
    ],
)
def test_an_error_has_the_format_of_its_api(path: str, keys: dict[str, Any], content: dict[str, Any]) -> None:
    start, body = response_to(path, ERROR, **keys)
    assert start["status"] == 400
    assert json.loads(body["body"]) == content


@pytest.mark.parametrize(
    ("error", "status", "header"),
    [
        (MethodNotAllowed("Use GET.", "GET", "HEAD"), 405, (b"allow", b"GET, HEAD")),
        (BodyTooSlow(timeout_s=1), 408, (b"connection", b"close")),
        (BodyTooLarge(limit=1), 413, (b"connection", b"close")),
        (Overloaded(), 429, (b"retry-after", b"5")),
        (asyncio.CancelledError(), 503, (b"retry-after", b"1")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_has_its_status_and_headers(error: TFserveError, status: int, header: tuple[bytes, bytes]) -> None:
    start, _ = response_to("/jobs/", error)
    assert start["status"] == status
    assert header in start["headers"]


def test_a_client_that_is_gone_gets_no_response() -> None:
    assert response_to("/jobs/", ClientGone()) == []


def test_a_message_that_is_not_utf8_is_sent_nevertheless() -> None:
    _, body = response_to("/v2/models/m", Invalid("no model 'a\udcff'"))
    assert json.loads(body["body"]) == {"error": "no model 'a?'"}
