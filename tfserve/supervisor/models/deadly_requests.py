"""Predict requests of a kind that has killed a worker before: they run alone and only once.

Two requests are of the same kind if they have the same signature, fetches and feeds, and if the feeds have the same
nesting and the same type of first element. The supervisor does not compare more, because only workers read the values.
"""

from __future__ import annotations

import re
import signal
from typing import Any

import msgspec

from tfserve.supervisor.processes.child import Exit

MAX_KINDS = 256

RequestKind = tuple[Any, ...]

_BRACKETS = re.compile(rb"[\[ \t\r\n]*")
_NUMBER = b"-0123456789"


class _Feeds(msgspec.Struct):
    fetches: msgspec.Raw = msgspec.Raw(b"null")
    feed_dict: dict[str, msgspec.Raw] | None = None
    signature: str = ""


_decoder = msgspec.json.Decoder(_Feeds)


class DeadlyRequests:
    """The kinds of requests that have killed a worker of one deployment."""

    def __init__(self) -> None:
        self._kinds: dict[RequestKind, None] = {}

    def __contains__(self, request: bytes) -> bool:
        return bool(self._kinds) and kind_of(request) in self._kinds

    def note(self, request: bytes, exit_: Exit, *, attempts: int) -> None:
        """Remembers the kind of a request that was computed alone when the worker died.

        SIGKILL has many causes, so the request is blamed only for the second one during the same job.
        """
        if exit_.signal == signal.SIGKILL and attempts < 2:
            return
        self._kinds[kind_of(request)] = None
        if len(self._kinds) > MAX_KINDS:
            del self._kinds[next(iter(self._kinds))]

    def forget(self) -> None:
        self._kinds.clear()


def kind_of(request: bytes) -> RequestKind:
    """The kind of a predict request."""
    try:
        decoded = _decoder.decode(request)
    except msgspec.DecodeError:
        return ("unreadable",)
    feeds = sorted((name, *_form(bytes(value))) for name, value in (decoded.feed_dict or {}).items())
    return (decoded.signature, bytes(decoded.fetches), *feeds)


def _form(value: bytes) -> tuple[int, bytes]:
    """The depth of nested lists, and the first character of the first element; 0 for any number."""
    opening = _BRACKETS.match(value)
    end = opening.end() if opening is not None else 0
    first = value[end : end + 1]
    return value.count(b"[", 0, end), b"0" if first in _NUMBER else first
