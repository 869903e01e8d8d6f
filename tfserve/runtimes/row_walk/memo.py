"""What the results of a function depend on, so that it is followed once for several equal calls."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from tfserve.runtimes.row_walk.operation_inputs import Shape
from tfserve.runtimes.row_walk.row_states import OneRow, State


def memo_key(
    name: str, states: Sequence[State], shapes: Sequence[Shape | None], sources: Sequence[str], values: Sequence[Any]
) -> Hashable:
    """The sources only matter by which of them are equal, unless a state names one of them."""
    if any(isinstance(state, OneRow) for state in states):
        repeats: tuple[object, ...] = tuple(sources)
    else:
        repeats = tuple(sources.index(each) for each in sources)
    return name, tuple(states), tuple(shapes), repeats, tuple(_content(each) for each in values)


def _content(value: Any) -> Hashable:
    if value is None:
        return None
    array = np.asarray(value)
    return array.dtype.str, array.shape, array.tolist() if not array.ndim else repr(array.tolist())
