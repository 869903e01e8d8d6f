"""What a path under /v1/ asks for, and which model it means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.types import Scope

from tfserve.errors import Invalid, NotFound, nearest
from tfserve.serving.models import Model, Models, NoSuchModel, NoSuchVersion

MAX_VERSION = 2**63 - 1
MAX_KNOWN = 1024

_MODEL = r"([^/:]+)"
_WHICH = r"(?:/versions/([0-9]+)|/labels/([^/:]+))?"
_ACTION = re.compile(rf"/v1/models/{_MODEL}{_WHICH}:(classify|regress|predict)", re.IGNORECASE)
_READ = re.compile(rf"/v1/models(?:/{_MODEL})?{_WHICH}(?:/(metadata|example))?", re.IGNORECASE)
_ESCAPED_COLON = re.compile(r"%3a(?=(?:classify|regress|predict)/?$)", re.IGNORECASE)
"""Some clients escape the colon before the verb."""


class MalformedRequest(Invalid):
    """Malformed request: {method} {path}"""


class UnknownLabel(Invalid):
    """Unrecognized servable version label: {label}. Ask for a version by its number: /v1/models/{name}/versions/1"""


class ServableNotFound(NotFound):
    """Servable not found for request: {asked}{hint}"""


@dataclass(frozen=True, slots=True)
class Address:
    """`verb` is predict, classify, regress, status, metadata, example or list; all but list need a name."""

    verb: str
    name: str = ""
    version: int | None = None
    label: str | None = None


class Addresses:
    """Reads paths, and remembers those that come again and again."""

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
    """Raises `Invalid` with TensorFlow Serving's words."""
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


def find(models: Models, address: Address) -> Model:
    """The version that takes requests, or the one that is asked for. Raises `ServableNotFound`, `UnknownLabel`."""
    if address.label is not None:
        raise UnknownLabel(label=address.label, name=address.name)
    return _get(models, address)


def versions(models: Models, address: Address) -> list[Model]:
    """All versions that an address means, the one that takes requests first. Raises the same."""
    if address.label is not None:
        raise UnknownLabel(label=address.label, name=address.name)
    if address.version is not None:
        return [_get(models, address)]
    try:
        return models.versions(address.name)
    except NoSuchModel:
        raise _not_found(models, address) from None


def _get(models: Models, address: Address) -> Model:
    try:
        return models.get(address.name, address.version)
    except NoSuchModel:
        raise _not_found(models, address) from None
    except NoSuchVersion as error:
        raise _not_found(models, address, known=error.detail["known"]) from None


def _not_found(models: Models, address: Address, known: str = "") -> ServableNotFound:
    asked = f"Latest({address.name})" if address.version is None else f"Specific({address.name}, {address.version})"
    hint = f" (there is: {known})" if known else nearest(address.name, models.names())
    return ServableNotFound(asked=asked, hint=hint)


def _version(digits: str | None) -> int | None:
    if digits is None:
        return None
    # The length is looked at first, since int() takes long, or refuses, where there are thousands of digits.
    if len(digits.lstrip("0")) > 19 or int(digits) > MAX_VERSION:
        raise Invalid(f"Failed to convert version: {digits[:50]} to numeric. It can be {MAX_VERSION} at most.")
    return int(digits)
