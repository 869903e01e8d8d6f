"""Request ids, from the client or generated, and the traces (W3C Trace Context) that requests belong to.

A request id is in the response and in the logs. The id of a trace is in the logs, and goes to the servers that this one
calls because of the request.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets
from contextvars import ContextVar

from tfserve.config import Settings

HEADER = b"x-request-id"

#: the id of the current request
REQUEST_ID: ContextVar[bytes] = ContextVar("request_id", default=b"")

TRACE_HEADER = b"traceparent"
#: `traceparent` of the current request, empty without a valid one
TRACEPARENT: ContextVar[str] = ContextVar("traceparent", default="")

_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_is_well_formed = re.compile(rb"[!-~]{1,128}").fullmatch
_prefix = secrets.token_hex(6).encode()
_numbers = itertools.count(1)


def fresh_id() -> bytes:
    """A unique id: a random prefix of this process and a counter."""
    return b"%b-%x" % (_prefix, next(_numbers))


def begin(given: bytes | None) -> bytes:
    """Sets the id of the request that begins, for the log lines of its task, and returns it. For any API.

    It is the client's id if that has 1 to 128 printable ASCII characters without spaces, otherwise a new one.
    """
    request_id = given if given is not None and _is_well_formed(given) else fresh_id()
    REQUEST_ID.set(request_id)
    return request_id


def join_trace(given: bytes | None) -> None:
    """Sets the trace of the request that begins. A malformed one is ignored, as the specification requires."""
    TRACEPARENT.set(given.decode() if given is not None and _TRACEPARENT.fullmatch(given) else "")


def traceparent(settings: Settings) -> str:
    """What the work of the current request continues: its span if there are spans, else the trace of the client."""
    if not settings.tracing:
        return TRACEPARENT.get()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # an extra

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")


def trace_id() -> str | None:
    """The id of the current request's trace."""
    return TRACEPARENT.get()[3:35] or None


class RequestIdFilter(logging.Filter):
    """Provides `%(request)s` for log lines: the id of the current request, if any."""

    def filter(self, record: logging.LogRecord) -> bool:
        request_id = REQUEST_ID.get()
        record.request = f" [request {request_id.decode()}]" if request_id else ""
        return True
