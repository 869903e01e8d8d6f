"""Lists of tensors, with which loops read and write: steps of a sequence, or one row after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tfserve.runtimes.row_walk.operation_inputs import OperationInputs
from tfserve.runtimes.row_walk.row_states import (
    SAME,
    ListElements,
    OneRow,
    RowCount,
    RowParts,
    RowPosition,
    SameForAll,
    State,
)


def made(node: OperationInputs) -> State:
    """TensorListReserve and EmptyTensorList: if its length counts rows, only rows may be written to it."""
    if node.states[1] == SAME:
        return ListElements()
    return ListElements(is_by_row=True) if node.states[1] == RowCount("rows") else node.mixes("its length is open")


def unstacked(node: OperationInputs) -> State:
    state = node.states[0]
    if isinstance(state, RowParts) and not state.is_spread:
        if state.axis:
            return ListElements(replace(state, axis=state.axis - 1))
        if state.is_exact:
            return ListElements(SAME, is_by_row=True)
    return node.mixes("it takes the rows apart")


def stacked(node: OperationInputs) -> State:
    state = node.states[0]
    if not isinstance(state, ListElements):
        return node.mixes("it stacks something else than a list")
    if state.is_by_row:
        return RowParts()
    if isinstance(state.each, RowParts):
        return replace(state.each, axis=state.each.axis + 1)
    return SAME if state.each is None else state.each


def element(node: OperationInputs, source: Callable[[int], str]) -> State:
    """`source` names the tensor that an input comes from."""
    state, index = node.states[:2]
    if not isinstance(state, ListElements):
        return node.mixes("it reads from something else than a list")
    if state.is_by_row:
        return OneRow(source(1)) if isinstance(index, RowPosition) else node.mixes("it selects rows")
    if not isinstance(index, SameForAll | RowCount):
        return node.mixes("the step depends on the batch")
    return SAME if state.each is None else state.each


def changed(node: OperationInputs, source: Callable[[int], str]) -> State:
    state, index, value = node.states[:3]
    state = ListElements(SAME) if isinstance(state, SameForAll) else state
    if isinstance(state, ListElements) and isinstance(value, OneRow) and isinstance(index, RowPosition):
        if state.each in {None, SAME} and value.index == source(1):
            return ListElements(SAME, is_by_row=True)
        return node.mixes("it writes a row to another position")
    if not isinstance(state, ListElements) or not isinstance(index, SameForAll | RowCount):
        return node.mixes("the step depends on the batch")
    if state.is_by_row or not isinstance(value, SameForAll | RowParts):
        return node.mixes("it combines rows with something else")
    if state.each is None or state.each == SAME:
        return ListElements(value)
    return state if value in {SAME, state.each} else node.mixes("its elements differ")


def appended(node: OperationInputs) -> State:
    state, value = node.states[:2]
    if isinstance(state, ListElements) and not state.is_by_row and isinstance(value, SameForAll | RowParts):
        if state.each in {None, SAME, value}:
            return ListElements(value)
        if value == SAME:
            return state
    return node.mixes("its elements differ")
