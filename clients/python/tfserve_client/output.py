"""The output of jobs and trainings: read so far, or followed live."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import httpx

from tfserve_client.core import Core
from tfserve_client.errors import JobTimeout, Unreachable, from_response
from tfserve_client.events import COMMENT, EventReader
from tfserve_client.flows import Chunk, Emit, Flow, Pause, Request, Stream

EVENT_STREAM = {"Accept": "text/event-stream"}

AFTER_ALL = 2**40
"""An offset after all output, for which nothing has to be sent."""
MOST_PAUSES = 40
"""The longest pause before a connection is opened again, as a multiple of the first one."""
SILENCE_S = 60.0
"""Seconds without a byte after which the connection is lost: the server sends a sign of life every 15 s."""


@dataclass(frozen=True)
class Output:
    """A part of a job's output, the offset of the next part in bytes, and the state of the job at that moment."""

    data: bytes
    next_offset: int
    state: str


@dataclass(frozen=True)
class Piece:
    """A piece of live output, with the offset after it. The last one has the state in which the job ended.

    `text` is empty for a sign of life, which the server sends every 15 s.
    """

    text: str
    offset: int
    ended: str | None = None


def read_output(core: Core, path: str, offset: int) -> Flow[Output]:
    """What is there now, from `offset` on."""
    response = yield from core._send(Request("GET", path, {"offset": offset}, idempotent=True))
    headers = response.headers
    return Output(response.content, int(headers["X-Next-Offset"]), headers["X-Job-State"])


Use = Callable[[Piece], Stream[Any]]
"""What is done with each piece."""


def follow_output(core: Core, path: str, offset: int, timeout: float | None, use: Use) -> Stream[Any]:
    """Uses the output as it is written, up to the end of the job. Reconnects after a broken connection.

    Raises `JobTimeout`, `Unreachable`, and the errors of the server.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    failures, cuts, progress = 0, 0, offset
    while True:
        is_alive = False  # whether anything has arrived on this connection
        try:
            reader = yield from _open(core, path, offset, deadline)
            while chunk := (yield Chunk()):
                for piece in _pieces(reader, chunk, offset):
                    offset, is_alive = piece.offset, True
                    yield from use(piece)
                    if piece.ended:
                        return
                remaining_until(deadline)
            cause: Exception = Unreachable(f"{core.url} closed the output before the job ended.")
        except (httpx.TransportError, Unreachable) as error:
            remaining_until(deadline)
            cause = error if isinstance(error, Unreachable) else core._unreachable(error)
        failures = 0 if is_alive else failures + 1
        if failures > core._retries.attempts:
            raise cause
        cuts, progress = (1 if offset > progress else cuts + 1), offset
        yield Pause(core._retries.first_s * min(cuts, MOST_PAUSES))


def texts(piece: Piece) -> Stream[str]:
    """Emits the text of a piece."""
    if piece.text:
        yield Emit(piece.text)


def until_ended(core: Core, path: str, timeout: float | None) -> Flow[None]:
    """Waits for the end of the job. Does not poll: the server ends the stream of the output with the job."""

    def ignore(_: Piece) -> Stream[Any]:
        yield from ()

    yield from cast(Flow[None], follow_output(core, path, AFTER_ALL, timeout, ignore))


def remaining_until(deadline: float | None) -> float | None:
    """Seconds until the deadline. Raises `JobTimeout` when it is past."""
    if deadline is None:
        return None
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise JobTimeout("The job did not end within the timeout. It keeps running.")
    return remaining


def _open(core: Core, path: str, offset: int, deadline: float | None) -> Flow[EventReader]:
    limit_s = min(SILENCE_S, remaining_until(deadline) or SILENCE_S)
    request = Request("GET", path, {"offset": offset}, headers=EVENT_STREAM, limit_s=limit_s, idempotent=True)
    response: httpx.Response = yield from core._respond(replace(request, streamed=True))
    if response.is_error:
        raise from_response(response)
    return EventReader()


def _pieces(reader: EventReader, chunk: bytes, offset: int) -> list[Piece]:
    pieces = []
    for event, data in reader.feed(chunk):
        content: dict[str, Any] = json.loads(data or b"{}")
        if event == COMMENT:
            pieces.append(Piece("", offset))
        elif event == "output":
            offset = content["offset"]
            pieces.append(Piece(content["text"], offset))
        elif event == "end":
            pieces.append(Piece("", offset, content["state"]))
    return pieces
