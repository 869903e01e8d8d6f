"""Request ids: taken from the client if they can be, else made. They stand in the answer and in the logs."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
from contextvars import ContextVar

HEADER = b"x-request-id"

#: the id of the request that is being answered
REQUEST_ID: ContextVar[bytes] = ContextVar("request_id", default=b"")

_is_well_formed = re.compile(rb"[!-~]{1,128}").fullmatch
_prefix = secrets.token_hex(6).encode()
_numbers = itertools.count(1)


def fresh_id() -> bytes:
    """Never the same again: random for this process, and counted in it."""
    return b"%b-%x" % (_prefix, next(_numbers))


def begin(given: bytes | None) -> bytes:
    """The id of the request that begins here, in every protocol; the log lines of its task tell it from now on.

    It is the client's own if that is 1 to 128 printable ASCII characters without spaces, else a fresh one.
    """
    request_id = given if given is not None and _is_well_formed(given) else fresh_id()
    REQUEST_ID.set(request_id)
    return request_id


class TellRequest(logging.Filter):
    """Makes `%(request)s` of a log line say which request it belongs to, if any."""

    def filter(self, record: logging.LogRecord) -> bool:
        request_id = REQUEST_ID.get()
        record.request = f" [request {request_id.decode()}]" if request_id else ""
        return True
