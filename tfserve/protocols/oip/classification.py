"""The classification extension: the best classes of an output instead of its numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfserve.errors import Invalid
from tfserve.tensors import Array, TensorSpec


def best(array: Array, spec: TensorSpec, count: int, labels: Sequence[str]) -> Array:
    """The `count` highest values of each row as `b"value:index"` or `b"value:index:label"`, highest first.

    An array of shape [rows, classes, …] gives one of [rows, count]; one without rows, of shape [classes], gives
    [count]. There are never more than there are classes. The one value of an output is that of no label if there are
    several. Raises `Invalid` for what has no order.
    """
    if array.dtype == object or array.dtype == bool:
        raise Invalid(f"Output {spec.name!r} is {spec}: classification needs numbers.")
    rows = array.reshape(len(array), -1) if array.ndim > 1 and array.size else array.reshape(1, -1)
    count = min(count, rows.shape[1])
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    if rows.shape[1] == 1 and len(labels) > 1:
        labels = ()
    texts = [
        [_text(row[index], int(index), labels) for index in indices] for row, indices in zip(rows, order, strict=True)
    ]
    chosen = np.empty(order.shape, dtype=object)
    chosen[:] = texts
    return chosen if array.ndim > 1 else chosen.reshape(count)


def _text(value: np.generic, index: int, labels: Sequence[str]) -> bytes:
    number = f"{value:f}" if value.dtype.kind == "f" or value.dtype.name == "bfloat16" else str(value)
    label = f":{labels[index]}" if index < len(labels) else ""
    return f"{number}:{index}{label}".encode()
