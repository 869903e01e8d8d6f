"""What the Python client decides without a connection: retries, errors, resuming an upload, and reading events."""

from __future__ import annotations

import httpx
import pytest

import tfserve_client
from tfserve import errors as of_server
from tfserve.web.http.responses import STATUS
from tfserve_client import Conflict, Invalid, NotFound, Retries, TFserveError, UnexpectedResponse, Unreachable
from tfserve_client.errors import BY_CODE, STATUSES, from_response
from tfserve_client.events import EventReader
from tfserve_client.flows import Request
from tfserve_client.uploads import FAILURES, may_continue

POST, GET = Request("POST", "/tasks/"), Request("GET", "/tasks/", idempotent=True)
REFUSED, BROKEN = httpx.ConnectError("refused"), httpx.ReadError("reset")
RETRIES = Retries(attempts=2, connecting=1, first_s=1.0, most_s=5.0)


# --- retries


@pytest.mark.parametrize(
    ("request_", "error", "attempt", "pause"),
    [
        (POST, REFUSED, 0, 1.0),  # the server has not seen it
        (POST, REFUSED, 1, None),
        (POST, BROKEN, 0, None),  # the server may have seen it
        (GET, BROKEN, 0, 1.0),
        (GET, BROKEN, 1, 2.0),
        (GET, BROKEN, 2, None),
        (GET, httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED]"), 0, None),
    ],
)
def test_a_request_is_sent_again_only_if_that_has_no_other_effect(
    request_: Request, error: httpx.TransportError, attempt: int, pause: float | None
) -> None:
    assert RETRIES.after_error(request_, error, attempt) == pause


@pytest.mark.parametrize(
    ("status", "retry_after", "attempt", "pause"),
    [
        (503, "3", 0, 3.0),
        (429, "0", 1, 2.0),
        (503, "60", 0, 5.0),
        (503, "3", 2, None),
        (503, "Wed, 21 Oct 2015 07:28:00 GMT", 0, 1.0),
        (503, None, 0, None),
        (500, "1", 0, None),
        (200, None, 0, None),
    ],
)
def test_a_response_that_names_a_time_is_waited_for(
    status: int, retry_after: str | None, attempt: int, pause: float | None
) -> None:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    assert RETRIES.after_response(httpx.Response(status, headers=headers), attempt) == pause


# --- errors


def response(status: int, **options: object) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "http://server/x"), **options)  # type: ignore[arg-type]


def test_every_kind_of_error_of_the_server_has_a_class_of_the_same_name() -> None:
    assert {code: each.__name__ for code, each in BY_CODE.items()} == {
        str(kind): each.__name__ for kind, each in of_server.BY_KIND.items()
    }
    assert {status: STATUSES[status] for status in STATUS.values()} == {
        status: str(kind) for kind, status in STATUS.items()
    }
    assert {each.__name__ for each in BY_CODE.values()} <= set(tfserve_client.__all__)


def test_an_error_keeps_message_field_and_status() -> None:
    error = {"code": "invalid", "message": "timeout is negative", "detail": {"field": "timeout"}}
    found = from_response(response(400, json={"request_result": False, "result": "…", "error": error}))
    assert isinstance(found, Invalid)
    assert (str(found), found.code, found.field, found.status) == ("timeout is negative", "invalid", "timeout", 400)


def test_an_error_of_another_api_has_the_class_of_its_status() -> None:
    found = from_response(response(404, json={"error": "cannot find task info", "taskId": "7"}))
    assert isinstance(found, NotFound)
    assert (found.message, found.code, found.detail) == ("cannot find task info", "not_found", {"taskId": "7"})


def test_an_unknown_code_has_the_class_of_its_status() -> None:
    found = from_response(response(409, json={"error": {"code": "of_a_later_version", "message": "no"}}))
    assert isinstance(found, Conflict)
    assert found.code == "of_a_later_version"


def test_a_response_of_another_program_is_quoted() -> None:
    found = from_response(response(502, text="<h1>Bad\nGateway</h1>"))
    assert isinstance(found, UnexpectedResponse)
    assert "status 502: <h1>Bad Gateway</h1>" in found.message


# --- uploads and events


@pytest.mark.parametrize(
    ("error", "failures", "outcome"),
    [
        (Unreachable("gone"), 1, True),
        (Unreachable("gone"), FAILURES + 1, False),
        (Conflict("wrong offset", status=409), 1, True),
        (TFserveError("too slow", status=408), FAILURES, True),
        (Invalid("wrong checksum", status=400), 1, False),
        (TFserveError("too large", status=413), 1, False),
    ],
)
def test_an_upload_continues_after_errors_that_pass(error: TFserveError, failures: int, outcome: bool) -> None:
    assert may_continue(error, failures) is outcome


def test_events_are_read_from_chunks_that_end_anywhere() -> None:
    stream = 'event: output\r\nid: 3\r\ndata: {"text": "a\u2028b"}\r\n\r\n: alive\n\nevent: end\ndata: {}\n\n'.encode()
    reader = EventReader()
    found = [event for byte in stream for event in reader.feed(bytes([byte]))]
    assert found == [("output", '{"text": "a\u2028b"}'.encode()), ("comment", b""), ("end", b"{}")]
