"""What goes back to a client of version 2: JSON, or JSON with tensors behind it; errors are `{"error": sentence}`."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any, NamedTuple

import orjson

from tfserve.errors import TFserveError
from tfserve.http.answers import JSON_TYPE, error_headers, status_of
from tfserve.http.bodies import WINDOW_BITS
from tfserve.http.server import Header

Headers = tuple[Header, ...]

JSON: Headers = (JSON_TYPE,)

#: smaller bodies are sent as they are
WORTH_PACKING_BYTES = 1024
#: a body is packed when so much of it shrinks to less than `WORTH_PACKING`; random floats do not
SAMPLE_BYTES = 4096
WORTH_PACKING = 0.75
#: larger bodies are packed beside the event loop
LARGE_BYTES = 64 * 1024
FAST = 1


class Answer(NamedTuple):
    """One HTTP answer; its length is added when it is sent."""

    body: bytes
    headers: Headers = JSON
    status: int = 200


def json_answer(content: Any, status: int = 200) -> Answer:
    return Answer(orjson.dumps(content), JSON, status)


def refusal(error: TFserveError, *, status: int | None = None, headers: Headers = ()) -> Answer:
    """The error in this protocol's words."""
    headers += tuple((name.lower().encode(), value.encode()) for name, value in error_headers(error).items())
    text = error.message.encode("utf-8", "replace").decode()
    return Answer(orjson.dumps({"error": text}), JSON + headers, status or status_of(error))


async def packed(answer: Answer, accepted: bytes | None) -> Answer:
    """The answer as the client's `Accept-Encoding` wants it, if that makes it smaller."""
    if accepted is None or len(answer.body) < WORTH_PACKING_BYTES:
        return answer
    encoding = _chosen(accepted)
    if encoding is None or not _shrinks(answer.body):
        return answer
    is_large = len(answer.body) > LARGE_BYTES
    body = await asyncio.to_thread(_pack, answer.body, encoding) if is_large else _pack(answer.body, encoding)
    return answer._replace(body=body, headers=(*answer.headers, (b"content-encoding", encoding)))


def _chosen(accepted: bytes) -> bytes | None:
    """gzip or deflate, the first of them that the header names and does not refuse."""
    for part in accepted.lower().split(b","):
        name, _, quality = part.partition(b";")
        if name.strip() in (b"gzip", b"deflate") and quality.replace(b" ", b"").rstrip(b"0.") != b"q=":
            return name.strip()
    return None


def _shrinks(body: bytes) -> bool:
    sample = body[-SAMPLE_BYTES:]
    return len(zlib.compress(sample, FAST)) < WORTH_PACKING * len(sample)


def _pack(body: bytes, encoding: bytes) -> bytes:
    packer = zlib.compressobj(FAST, zlib.DEFLATED, WINDOW_BITS[encoding])
    return packer.compress(body) + packer.flush()
