"""TensorFlow Serving's words for a list whose lists are not equally long."""

from __future__ import annotations

from typing import Any

from tfserve.errors import Invalid
from tfserve.json_numbers import Numbers
from tfserve.tensor_json import EXPLAINED_BYTES, plain
from tfserve.tensors import Ragged


def told_ragged(value: Any, error: Ragged) -> Invalid:
    """The error with the place of the first list of another length than the first of its level, where there is one."""
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
