"""Request ids: from the client, or generated. They are in the response and in the logs."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
from contextvars import ContextVar

HEADER = b"x-request-id"

#: the id of the current request
REQUEST_ID: ContextVar[bytes] = ContextVar("request_id", default=b"")

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


class RequestIdFilter(logging.Filter):
    """Provides `%(request)s` for log lines: the id of the current request, if any."""

    def filter(self, record: logging.LogRecord) -> bool:
        request_id = REQUEST_ID.get()
        record.request = f" [request {request_id.decode()}]" if request_id else ""
        return True
