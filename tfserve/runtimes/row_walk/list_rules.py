"""Lists of tensors, with which loops read and write: steps of a sequence, or one row after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tfserve.runtimes.row_walk.node import Node
from tfserve.runtimes.row_walk.row_states import SAME, Count, Elements, OneRow, Rows, Same, State


def unstacked(node: Node) -> State:
    state = node.states[0]
    if isinstance(state, Rows) and not state.is_spread:
        if state.axis:
            return Elements(replace(state, axis=state.axis - 1))
        if state.is_exact:
            return Elements(SAME, is_by_row=True)
    return node.mixes("it takes the rows apart")


def stacked(node: Node) -> State:
    state = node.states[0]
    if not isinstance(state, Elements):
        return node.mixes("it stacks something else than a list")
    if state.is_by_row:
        return Rows()
    if isinstance(state.each, Rows):
        return replace(state.each, axis=state.each.axis + 1)
    return SAME if state.each is None else state.each


def element(node: Node, source: Callable[[int], str]) -> State:
    """`source` names the tensor that an input comes from."""
    state, index = node.states[:2]
    if not isinstance(state, Elements):
        return node.mixes("it reads from something else than a list")
    if state.is_by_row:
        return OneRow(source(1)) if isinstance(index, Same | Count) else node.mixes("it selects rows")
    if not isinstance(index, Same | Count):
        return node.mixes("the step depends on the batch")
    return SAME if state.each is None else state.each


def changed(node: Node, source: Callable[[int], str]) -> State:
    state, index, value = node.states[:3]
    state = Elements(SAME) if isinstance(state, Same) else state
    if not isinstance(state, Elements) or not isinstance(index, Same | Count):
        return node.mixes("the step depends on the batch")
    if isinstance(value, OneRow):
        is_fresh = state.each in {None, SAME}
        if is_fresh and value.index == source(1):
            return Elements(SAME, is_by_row=True)
        return node.mixes("it writes a row to another position")
    if state.is_by_row or not isinstance(value, Same | Rows):
        return node.mixes("it combines rows with something else")
    if state.each is None or state.each == SAME:
        return Elements(value)
    return state if value in {SAME, state.each} else node.mixes("its elements differ")


def appended(node: Node) -> State:
    state, value = node.states[:2]
    if isinstance(state, Elements) and not state.is_by_row and isinstance(value, Same | Rows):
        if state.each in {None, SAME, value}:
            return Elements(value)
        if value == SAME:
            return state
    return node.mixes("its elements differ")
