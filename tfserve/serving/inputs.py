"""Whether what a caller gives fits what a model takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from tfserve.errors import Invalid, nearest
from tfserve.tensors import MAX_RANK, Shape, Signature, TensorSpec

#: More than any request can hold. An array of no elements has sizes too, and numpy multiplies them.
MAX_ELEMENTS = 1 << 40


ELEMENT_BYTES = 256
"""As many as an element takes in any protocol, with brackets, spaces and digits without end."""
REST_BYTES = 1 << 20
"""For everything else in a request."""


def max_body_bytes(signatures: Iterable[Signature]) -> int | None:
    """The most that a request for one of the signatures can need; None where an input may have any size."""
    most = 0
    for signature in signatures:
        for spec in signature.inputs:
            if spec.dtype == "string" or spec.shape is None or -1 in spec.shape:
                return None
        most = max(most, sum(math.prod(spec.shape or ()) for spec in signature.inputs))
    return most * ELEMENT_BYTES + REST_BYTES


def find(name: str, specs: Sequence[TensorSpec], kind: str) -> TensorSpec:
    """The input or output of that name; `kind` says which. Raises `Invalid`, which lists what there is."""
    for spec in specs:
        if spec.name == name:
            return spec
    known = [spec.name for spec in specs]
    raise Invalid(f"There is no {kind} {name[:100]!r}{nearest(name[:100], known)}. There are: {_listed(known)}.")


def require_all(given: Iterable[str], specs: Sequence[TensorSpec]) -> None:
    """Raises `Invalid`, which names the inputs that are missing."""
    missing = {spec.name for spec in specs}.difference(given)
    if missing:
        known = [str(spec.name) for spec in specs]
        raise Invalid(f"{_listed(sorted(missing))} must be given too. The inputs are: {_listed(known)}.")


def refuse_repeated(names: Sequence[str], kind: str) -> None:
    if len(set(names)) < len(names):
        raise repeated(next(name for name in names if names.count(name) > 1), kind)


def repeated(name: str, kind: str) -> Invalid:
    """The error for a name that is there twice."""
    return Invalid(f"The {kind} {name[:100]!r} was given more than once. Give each {kind} once.")


def require_shape(shape: Shape, spec: TensorSpec) -> None:
    """Raises `Invalid`. Sizes are looked at before anything is allocated for them."""
    if shape and min(shape) < 0:
        raise Invalid(f"Input {spec.name!r} was given the shape {list(shape[:MAX_RANK])}: a size can't be negative.")
    if not spec.accepts(shape):
        hint = " Its first size counts examples: it is 1 for a single one." if _is_example(shape, spec) else ""
        raise Invalid(f"Input {spec.name!r} takes {spec}; the shape {list(shape[:MAX_RANK])} was given.{hint}")
    if len(shape) > MAX_RANK or math.prod([size or 1 for size in shape]) > MAX_ELEMENTS:
        raise Invalid(
            f"Input {spec.name!r} was given a shape of {len(shape)} dimensions, with sizes of up to {max(shape)};"
            f" at most {MAX_RANK} dimensions are possible, and sizes that come to {MAX_ELEMENTS} without the zeros."
        )


def _is_example(shape: Shape, spec: TensorSpec) -> bool:
    return spec.is_batched and len(shape) < MAX_RANK and spec.accepts((1, *shape))


def require_bools(data: bytes | memoryview, name: str) -> None:
    """Raises `Invalid` for bytes other than 0 and 1, which are no truth values."""
    values = np.frombuffer(data, np.uint8)
    if values.size and values.max() > 1:
        raise Invalid(f"Input {name!r} is BOOL, so bytes of 0 and 1; {int(values.max())} was given.")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
