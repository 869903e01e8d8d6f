"""Responses of version 2: JSON, or JSON followed by binary tensors."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import orjson
from msgspec.structs import replace

from tfserve.web.http.bodies import WINDOW_BITS
from tfserve.web.http.responses import JSON_TYPE, RestResponse

#: smaller bodies are not compressed
WORTH_PACKING_BYTES = 1024
#: a body is compressed if a sample of this size shrinks below `WORTH_PACKING`; random floats do not
SAMPLE_BYTES = 4096
WORTH_PACKING = 0.75
#: larger bodies are compressed in a thread
LARGE_BYTES = 64 * 1024
FAST = 1


def json_response(content: Any, status: int = 200) -> RestResponse:
    return RestResponse(orjson.dumps(content), (JSON_TYPE,), status)


async def packed(answer: RestResponse, accepted: bytes | None) -> RestResponse:
    """The response, compressed as the client's `Accept-Encoding` allows, if that makes it smaller."""
    if accepted is None or len(answer.body) < WORTH_PACKING_BYTES:
        return answer
    encoding = _chosen(accepted)
    if encoding is None or not _shrinks(answer.body):
        return answer
    is_large = len(answer.body) > LARGE_BYTES
    body = await asyncio.to_thread(_pack, answer.body, encoding) if is_large else _pack(answer.body, encoding)
    return replace(answer, body=body, headers=(*answer.headers, (b"content-encoding", encoding)))


def _chosen(accepted: bytes) -> bytes | None:
    """gzip or deflate, whichever the header accepts first."""
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
