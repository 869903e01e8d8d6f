"""Routing under /v1/: from a path to an `Address`."""

from __future__ import annotations

import re
from urllib.parse import unquote

from starlette.types import Scope

from tfserve.errors import Invalid
from tfserve.web.api.v1.core import Address

MAX_VERSION = 2**63 - 1
MAX_KNOWN = 1024

_MODEL = r"([^/:]+)"
_WHICH = r"(?:/versions/([0-9]+)|/labels/([^/:]+))?"
_ACTION = re.compile(rf"/v1/models/{_MODEL}{_WHICH}:(classify|regress|predict)", re.IGNORECASE)
_READ = re.compile(rf"/v1/models(?:/{_MODEL})?{_WHICH}(?:/(metadata|example))?", re.IGNORECASE)
_ESCAPED_COLON = re.compile(r"%3a(?=(?:classify|regress|predict)/?$)", re.IGNORECASE)
"""Some clients escape the colon before the method."""


class MalformedRequest(Invalid):
    """Malformed request: {method} {path}"""


class Addresses:
    """Parses paths, with a cache."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes], Address] = {}

    def read(self, scope: Scope) -> Address:
        """Raises `Invalid`."""
        key = (scope["method"], scope["raw_path"])
        known = self._known.get(key)
        if known is None:
            known = read(*key)
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[key] = known
        return known


def read(method: str, raw_path: bytes) -> Address:
    """Raises `Invalid` with TensorFlow Serving's message."""
    path = _ESCAPED_COLON.sub(":", raw_path.decode("latin-1")).removesuffix("/")
    pattern = {"POST": _ACTION, "GET": _READ, "HEAD": _READ}.get(method)
    match = pattern.fullmatch(path) if pattern else None
    if match is None:
        raise MalformedRequest(method=method, path=raw_path.decode("latin-1")[:200])
    name, version, label, verb = match.groups()
    if name is None:
        if version or label or verb:
            raise Invalid("Missing model name in request.")
        return Address("list")
    return Address((verb or "status").lower(), unquote(name), _version(version), unquote(label) if label else None)


def _version(digits: str | None) -> int | None:
    if digits is None:
        return None
    # Check the length first, because int() is slow or fails for thousands of digits.
    if len(digits.lstrip("0")) > 19 or int(digits) > MAX_VERSION:
        raise Invalid(f"Failed to convert version: {digits[:50]} to numeric. The maximum is {MAX_VERSION}.")
    return int(digits)
