"""The header fields of a call: what is asked, by whom, and how long the client waits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import NamedTuple

from tfserve.errors import Invalid, TFserveError, TooLarge, Unsupported
from tfserve.ipc.predictions import DEFAULT_URGENCY
from tfserve.web.grpc_server.messages import ENCODINGS
from tfserve.web.http.priority_headers import read_priority_headers
from tfserve.web.http.request_ids import HEADER, TRACE_HEADER
from tfserve.web.http2.frames import ErrorCode, StreamProblem
from tfserve.web.http2.header_blocks import FIELD_OVERHEAD, MAX_METADATA_BYTES, Field
from tfserve.web.missing_extensions import instead_of
from tfserve.web.rpc import StreamMethod, Unary

MAX_SHOWN = 120
_REFLECTION = "Its reflection service lists those that it has."
CONNECTION_FIELDS = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))
PSEUDO_FIELDS = frozenset((b":method", b":scheme", b":path", b":authority"))

_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_is_timeout = re.compile(rb"[0-9]{1,8}[HMSmun]").fullmatch
_is_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_is_bad_value = re.compile(rb"[\x00\r\n]").search


class UnknownMethod(Unsupported):
    """This server has no gRPC method {path!r}{hint}. {instead}"""


class Method(NamedTuple):
    """A method by its full path, such as `/inference.GRPCInferenceService/ModelInfer`."""

    path: str
    answers: Unary | StreamMethod


class NotGrpc(NamedTuple):
    """Why a request is not a gRPC call."""

    status: int
    text: str


class CallHead:
    """A call's header fields. Calls with equal header blocks on one connection share it."""

    __slots__ = (
        "client",
        "encoding",
        "error",
        "fields",
        "metadata",
        "method",
        "not_grpc",
        "path",
        "timeout_s",
        "urgency",
    )

    def __init__(self, fields: list[Field], methods: Mapping[bytes, Method]) -> None:
        """Raises `StreamProblem` for what is malformed in HTTP/2's sense."""
        self.fields = fields
        self.metadata = metadata = _checked(fields)
        path = metadata[b":path"]
        self.path = path.decode("latin-1")
        self.method = methods.get(path)
        self.not_grpc = _not_grpc(metadata)
        self.encoding = metadata.get(b"grpc-encoding", b"identity")
        self.urgency = DEFAULT_URGENCY
        self.timeout_s: float | None = None
        self.error: TFserveError | None = None
        #: the address that the access log shows, and the host: set by the first call
        self.client: tuple[str, str] | None = None
        try:
            self._read(metadata, methods)
        except TFserveError as error:
            self.error = error

    @property
    def request_id(self) -> bytes | None:
        return self.metadata.get(HEADER)

    @property
    def traceparent(self) -> bytes | None:
        return self.metadata.get(TRACE_HEADER)

    def _read(self, metadata: Mapping[bytes, bytes], methods: Mapping[bytes, Method]) -> None:
        if self.method is None:
            shown = self.path[:MAX_SHOWN]
            name = shown.rpartition("/")[2]
            instead = instead_of(name) or _REFLECTION
            hint = _hint(name, methods) if instead is _REFLECTION else ""
            raise UnknownMethod(path=shown, hint=hint, instead=instead)
        if (size := sum(len(name) + len(value) + FIELD_OVERHEAD for name, value in self.fields)) > MAX_METADATA_BYTES:
            raise TooLarge(f"The metadata have {size} bytes; the maximum is {MAX_METADATA_BYTES}. Send less.")
        if self.encoding not in ENCODINGS:
            known_encodings = ", ".join(each.decode() for each in ENCODINGS)
            given = self.encoding[:40].decode("latin-1")
            raise Unsupported(f"Unknown grpc-encoding {given!r}. Supported: {known_encodings}.")
        if (timeout := metadata.get(b"grpc-timeout")) is not None:
            self.timeout_s = _seconds(timeout)
        if (priority := metadata.get(b"priority")) is not None:
            self.urgency = read_priority_headers({b"priority": priority})[0]


def _checked(fields: list[Field]) -> dict[bytes, bytes]:
    """The fields by name; the first of equal names counts, but pseudo-header fields must be unique."""
    found: dict[bytes, bytes] = {}
    is_regular = False
    for name, value in fields:
        if name[:1] == b":":
            if is_regular or name in found or name not in PSEUDO_FIELDS:
                raise StreamProblem(ErrorCode.PROTOCOL_ERROR)
        else:
            is_regular = True
            if not _is_name(name) or name in CONNECTION_FIELDS or (name == b"te" and value != b"trailers"):
                raise StreamProblem(ErrorCode.PROTOCOL_ERROR)
        if _is_bad_value(value):
            raise StreamProblem(ErrorCode.PROTOCOL_ERROR)
        found.setdefault(name, value)
    if not found.get(b":path") or b":method" not in found or b":scheme" not in found:
        raise StreamProblem(ErrorCode.PROTOCOL_ERROR)
    return found


def _not_grpc(metadata: Mapping[bytes, bytes]) -> NotGrpc | None:
    if metadata[b":method"] != b"POST":
        return NotGrpc(405, "This port serves gRPC, whose calls are POST requests. Use the HTTP port for REST.\n")
    content_type = metadata.get(b"content-type", b"")
    if content_type[:16] != b"application/grpc" or content_type[16:17] not in (b"", b"+", b";"):
        return NotGrpc(415, "This port serves gRPC (content-type: application/grpc). Use the HTTP port for REST.\n")
    return None


def _hint(name: str, methods: Mapping[bytes, Method]) -> str:
    """The path of the method with the most similar name: clients often have the service wrong."""
    paths = {each.path.rpartition("/")[2]: each.path for each in methods.values()}
    match = get_close_matches(name, paths, n=1)
    return f" (did you mean {paths[match[0]]!r}?)" if match else ""


def _seconds(timeout: bytes) -> float:
    if not _is_timeout(timeout):
        given = timeout[:40].decode("latin-1")
        raise Invalid(
            f"grpc-timeout must be at most 8 digits and a unit (H, M, S, m, u, n), such as 500m; got {given!r}."
        )
    return int(timeout[:-1]) * _UNITS[timeout[-1:]]
