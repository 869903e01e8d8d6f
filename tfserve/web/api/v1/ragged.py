"""TensorFlow Serving's error messages for ragged lists."""

from __future__ import annotations

from typing import Any

from tfserve.errors import Invalid
from tfserve.tensors.json_numbers import Numbers
from tfserve.tensors.specs import Ragged
from tfserve.tensors.tensor_json import EXPLAINED_BYTES, plain


def told_ragged(value: Any, error: Ragged) -> Invalid:
    """The error with the position of the first list whose length differs from the first one at its level, if any."""
    if value.__class__ is Numbers and len(value.text) > EXPLAINED_BYTES:
        return error
    expected: dict[int, int] = {}
    level = [plain(value)]
    depth = 0
    while level:
        lists = [each for each in level if each.__class__ is list]
        for each in lists:
            size = expected.setdefault(depth, len(each))
            if len(each) != size:
                place = f"Encountered list at unexpected size: {len(each)} at level: {depth} expected size: {size}"
                return Invalid(f"{place}. {error.message}")
        level = [inner for each in lists for inner in each if inner.__class__ is list]
        depth += 1
    return error
