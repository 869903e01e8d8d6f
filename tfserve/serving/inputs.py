"""Whether what a caller gives fits what a model takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tfserve.errors import Invalid, nearest
from tfserve.tensors import MAX_RANK, Shape, TensorSpec

#: An array of no elements has sizes too, and numpy multiplies them.
MAX_ELEMENTS = 1 << 48


def find(name: str, specs: Sequence[TensorSpec], kind: str) -> TensorSpec:
    """The input or output of that name; `kind` says which. Raises `Invalid`, which lists what there is."""
    for spec in specs:
        if spec.name == name:
            return spec
    known = [spec.name for spec in specs]
    raise Invalid(f"There is no {kind} {name!r}{nearest(name, known)}. There are: {_listed(known)}.")


def require_all(given: Iterable[str], specs: Sequence[TensorSpec]) -> None:
    """Raises `Invalid`, which names the inputs that are missing."""
    missing = {spec.name for spec in specs}.difference(given)
    if missing:
        known = [str(spec.name) for spec in specs]
        raise Invalid(f"{_listed(sorted(missing))} must be given too. The inputs are: {_listed(known)}.")


def refuse_repeated(names: Sequence[str], kind: str) -> None:
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise Invalid(f"The {kind} {repeated!r} was given more than once. Give each {kind} once.")


def require_shape(shape: Shape, spec: TensorSpec) -> None:
    """Raises `Invalid`. Sizes are looked at before anything is allocated for them."""
    if shape and min(shape) < 0:
        raise Invalid(f"Input {spec.name!r} was given the shape {list(shape[:MAX_RANK])}: a size can't be negative.")
    if not spec.accepts(shape):
        hint = " Its first dimension counts examples." if spec.is_batched and spec.accepts((1, *shape)) else ""
        raise Invalid(f"Input {spec.name!r} takes {spec}; the shape {list(shape[:MAX_RANK])} was given.{hint}")
    if len(shape) > MAX_RANK or (0 in shape and math.prod([size or 1 for size in shape]) > MAX_ELEMENTS):
        raise Invalid(
            f"Input {spec.name!r} was given a shape of {len(shape)} dimensions, with sizes of up to {max(shape)};"
            f" at most {MAX_RANK} dimensions are possible, and sizes that come to {MAX_ELEMENTS} without the zeros."
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
