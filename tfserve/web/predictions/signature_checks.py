"""Checks of a request against a model's signature, for every protocol."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from tfserve.errors import Invalid, nearest
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Signature, TensorSpec

ELEMENT_BYTES = 256
"""Maximum size of an element in any protocol, with brackets, white space and many digits."""
REST_BYTES = 1 << 20
"""Maximum size of everything else in a request."""


def max_body_bytes(signatures: Iterable[Signature]) -> int | None:
    """The maximum size of a request for one of the signatures; None if an input may have any size."""
    most = 0
    for signature in signatures:
        for spec in signature.takes:
            if spec.dtype == "string" or spec.shape is None or -1 in spec.shape:
                return None
        most = max(most, sum(math.prod(spec.shape or ()) for spec in signature.takes))
    return most * ELEMENT_BYTES + REST_BYTES


def default_of(signatures: Collection[str]) -> str:
    """The signature that is meant when none is named: `serving_default`, or the only one that there is."""
    return next(iter(signatures)) if len(signatures) == 1 else DEFAULT_SIGNATURE


def find(name: str, specs: Sequence[TensorSpec], what: str) -> TensorSpec:
    """The input or output (`what`) with that name. Raises `Invalid` with a list of the available ones."""
    for spec in specs:
        if spec.name == name:
            return spec
    raise unknown(name, [spec.name for spec in specs], what)


def unknown(name: str, known: Collection[str], what: str) -> Invalid:
    """The error for a name that does not exist."""
    return Invalid(f"Unknown {what} {name[:100]!r}{nearest(name[:100], known)}. Available: {listed(known)}.")


def require_all(given: Collection[str], specs: Sequence[TensorSpec]) -> None:
    """Raises `Invalid` with the names of the missing inputs."""
    missing = sorted({spec.name for spec in specs}.difference(given))
    if missing:
        known = [spec.name for spec in specs]
        raise Invalid(f"Missing input {listed(missing)}{nearest(missing[0], given)}. Required: {listed(known)}.")


def require_names(given: Collection[str], signature: Signature) -> None:
    """Raises `Invalid` if the names are not exactly those of the inputs. Optional inputs may be among them."""
    for name in given:
        find(name, signature.takes, "input")
    require_all(given, signature.inputs)


def refuse_repeated(names: Sequence[str], what: str) -> None:
    """Raises `Invalid` if a name occurs twice."""
    if len(set(names)) < len(names):
        raise repeated(next(name for name in names if names.count(name) > 1), what)


def repeated(name: str, what: str) -> Invalid:
    """The error for a name that occurs twice."""
    return Invalid(f"The {what} {name[:100]!r} was given more than once.")


def require_bools(data: bytes | memoryview, name: str) -> None:
    """Raises `Invalid` for bytes other than 0 and 1."""
    values = np.frombuffer(data, np.uint8)
    if values.size and values.max() > 1:
        raise Invalid(f"Input {name!r} is BOOL and takes only bytes of 0 or 1, got {int(values.max())}.")


def listed(names: Iterable[str]) -> str:
    """At most 20 names, quoted."""
    return ", ".join(map(repr, list(names)[:20])) or "none"
