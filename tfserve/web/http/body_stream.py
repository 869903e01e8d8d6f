"""Reads a request body piece by piece, for bodies that go to the disk and may be larger than the memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from starlette.types import Receive, Scope

from tfserve.config import Settings
from tfserve.errors import Invalid, TooLarge
from tfserve.web.http.bodies import BYTES_PER_S, receive_message

STREAMED = re.compile(r"/upload/|/workspaces/[^/]+/files/")
"""The paths whose bodies are read by `stream_body`."""
MAX_HELD_BYTES = 2 * 2**20
"""What of such a body is in memory at most."""


class StreamTooLarge(TooLarge):
    """The file is larger than the limit of {limit} bytes ({what})."""


def held_bytes(scope: Scope, length: int | None) -> int | None:
    """How much of a body of this length is in memory at a time."""
    if length is None or length <= MAX_HELD_BYTES or STREAMED.match(scope["path"]) is None:
        return length
    return MAX_HELD_BYTES


def content_length(scope: Scope) -> int | None:
    """The length that the request announces. Raises `Invalid` for a body that is compressed on the way."""
    length = None
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = int(value)
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise Invalid("expected the file as it is, without Content-Encoding; a .zip or .tar.gz file may be sent")
    return length


async def stream_body(
    scope: Scope, receive: Receive, settings: Settings, *, limit: int, what: str
) -> AsyncIterator[bytes]:
    """The pieces of the body as they arrive. `what` says where the limit comes from.

    Only the time that the client takes counts, not that of the disk. Raises `StreamTooLarge`, `BodyTooSlow`,
    `ClientGone`, `Invalid`.
    """
    if (content_length(scope) or 0) > limit:
        raise StreamTooLarge(limit=limit, what=what)
    clock = asyncio.get_running_loop().time
    received, waited_s = 0, 0.0
    more = True
    while more:
        began_at = clock()
        message = await receive_message(receive, settings.body_timeout_s + received / BYTES_PER_S - waited_s, settings)
        waited_s += clock() - began_at
        piece: bytes = message.get("body", b"")
        received += len(piece)
        if received > limit:
            raise StreamTooLarge(limit=limit, what=what)
        if piece:
            yield piece
        more = bool(message.get("more_body"))
