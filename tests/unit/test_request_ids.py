"""Whatever an application does behind it, the answer has a request id."""

from __future__ import annotations

import asyncio
import logging

import pytest
from starlette.types import Message, Receive, Scope, Send

from tfserve.web.http.request_boundary import RequestBoundary
from tfserve.web.http.request_ids import RequestIdFilter, join_trace, trace_id
from tfserve.web.http.responses import error_counts

START = {"type": "http.response.start", "status": 200, "headers": ((b"content-type", b"text/plain"),)}


def scope(path: str) -> Scope:
    return {"type": "http", "method": "GET", "path": path, "headers": [(b"x-request-id", b"mine")], "client": None}


async def receive() -> Message:
    return {"type": "http.disconnect"}


async def breaks(_: Scope, __: Receive, send: Send) -> None:
    raise ZeroDivisionError


async def breaks_later(_: Scope, __: Receive, send: Send) -> None:
    await send(dict(START))
    raise ZeroDivisionError


def test_an_application_that_breaks_is_answered_for(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Message] = []
    before = error_counts.get("v1", {}).get("500", 0)

    async def send(message: Message) -> None:
        sent.append(message)

    caplog.handler.addFilter(RequestIdFilter())
    asyncio.run(RequestBoundary(breaks)(scope("/v1/models"), receive, send))
    assert sent[0]["status"] == 500
    assert (b"x-request-id", b"mine") in sent[0]["headers"]
    assert b"ZeroDivision" not in sent[1]["body"]
    assert error_counts["v1"]["500"] == before + 1
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.__dict__["request"] == " [request mine]"
    assert record.exc_info


def test_half_an_answer_is_not_taken_for_a_whole_one() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(RequestBoundary(breaks_later)(scope("/"), receive, send))
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert START["headers"] == ((b"content-type", b"text/plain"),), "headers may be shared by all answers"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c"),
        (b"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", "0af7651916cd43dd8448eb211c80319c"),
        (b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        (b"00-00000000000000000000000000000000-b7ad6b7169203331-01", None),
        (b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", None),
        (b"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", None),
        (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n", None),
        (b"", None),
        (None, None),
    ],
)
def test_only_a_well_formed_traceparent_is_joined(given: bytes | None, found: str | None) -> None:
    join_trace(given)
    assert trace_id() == found
    join_trace(None)
