"""How a call ends: gRPC's status in the trailers of the response."""

from __future__ import annotations

from tfserve.errors import TFserveError
from tfserve.web.http.request_ids import HEADER
from tfserve.web.http2.header_blocks import block, literal
from tfserve.web.rpc import STATUS

MAX_TEXT_BYTES = 6 * 1024
"""Clients refuse trailers that are larger than 8 KiB."""

_STATUS_200 = b"\x88"
_ENCODINGS = b"identity, deflate, gzip"
RESPONSE_HEAD = _STATUS_200 + block([(b"content-type", b"application/grpc"), (b"grpc-accept-encoding", _ENCODINGS)])
_OK = literal(b"grpc-status", b"0")

_ESCAPES = {byte: f"%{byte:02X}".encode() for byte in range(256) if not 0x20 <= byte <= 0x7E or byte == ord("%")}


def ok(request_id: bytes) -> bytes:
    """The trailers of a call that succeeded."""
    return _OK + literal(HEADER, request_id)


def failed(error: TFserveError, request_id: bytes) -> bytes:
    """The trailers of a call that failed."""
    return block(
        [
            (b"grpc-status", b"%d" % STATUS[error.kind]),
            (b"grpc-message", escaped(error.message)),
            (HEADER, request_id),
        ]
    )


def escaped(text: str) -> bytes:
    """Percent-encoded, as gRPC requires. Texts that are too long for clients are cut off."""
    data = text.encode("utf-8", "replace")
    pieces, size = [], 0
    for byte in data:
        piece = _ESCAPES.get(byte) or bytes((byte,))
        size += len(piece)
        if size > MAX_TEXT_BYTES:
            pieces.append(b"...")
            break
        pieces.append(piece)
    return b"".join(pieces)


def http_response(status: int, text: str) -> tuple[bytes, bytes]:
    """Header block and body for a request that is not gRPC at all."""
    body = text.encode()
    head = literal(b":status", b"%d" % status) + block(
        [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    )
    return head, body
