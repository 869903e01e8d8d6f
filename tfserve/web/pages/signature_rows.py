"""The tensors of signatures as rows of a list with pages, because a model may have any number of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from django.http import QueryDict

from tfserve.web.pages.listing import Shown, escaped_size, fitting

LIMIT_BYTES = 7000
"""Of the page."""
ROW_BYTES, SIGNATURE_BYTES = 120, 330


class TensorRow(NamedTuple):
    """A tensor of a signature; `tensor` is None in the one row of a signature that has none."""

    signature: str
    direction: str
    tensor: Any
    is_first: bool


def shown(query: QueryDict, signatures: Mapping[str, Any]) -> Shown:
    """The page `?signatures=` of the tensors of all signatures, which are structures or their JSON."""
    rows = [row for name, signature in signatures.items() for row in _rows(name, signature)]
    return fitting(query, "signatures", rows, LIMIT_BYTES, _size)


def _rows(name: str, signature: Any) -> Iterator[TensorRow]:
    tensors = [
        (word, each)
        for word, field in (("in", "inputs"), ("in, optional", "optional"), ("out", "outputs"))
        for each in _get(signature, field) or ()
    ]
    for index, (direction, tensor) in enumerate(tensors or [("", None)]):
        yield TensorRow(name, direction, tensor, index == 0)


def _get(record: Any, field: str) -> Any:
    return record.get(field) if isinstance(record, Mapping) else getattr(record, field, None)


def _size(row: TensorRow) -> int:
    size = SIGNATURE_BYTES + 3 * escaped_size(row.signature) if row.is_first else 0
    if row.tensor is None:
        return size
    return size + ROW_BYTES + escaped_size(_get(row.tensor, "name"), _get(row.tensor, "shape") or "")
