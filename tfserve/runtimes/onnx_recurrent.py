"""Recurrent layers of ONNX files, with which ONNX Runtime ends its process if a tensor is empty."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path

from tfserve.errors import Invalid
from tfserve.models import protobuf
from tfserve.tensors.specs import Array

_TYPES = frozenset({b"GRU", b"LSTM"})


def inputs_before(file: Path) -> frozenset[str]:
    """The tensors that such a layer may depend on, also if it is inside a loop, a condition or a function."""
    try:
        with file.open("rb") as opened:
            content = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
        functions = list(protobuf.of(content, 25))
        types = _TYPES
        if any(_is_in_graph(function, 7) for function in functions):  # then any function may have one
            types |= {bytes(name) for function in functions for name in protobuf.of(function, 1)}
        needed: set[bytes] = set()
        for graph in protobuf.of(content, 7):
            for node in reversed(list(protobuf.of(graph, 1))):  # each node comes after those that it needs
                if _is_in_node(node, types) or any(bytes(each) in needed for each in protobuf.of(node, 2)):
                    needed |= _inputs(node)
        return frozenset(each.decode() for each in needed)
    except (OSError, ValueError, IndexError):  # a file of another form
        return frozenset()


def check(inputs: Mapping[str, Array]) -> None:
    """Raises `Invalid` for an empty input."""
    for name, array in inputs.items():
        if not array.size:
            raise Invalid(
                f"Input {name!r} is empty: its shape is {list(array.shape)}. The model has a recurrent layer (GRU or"
                " LSTM), which ONNX Runtime can't compute for empty tensors. Send at least one row and one step."
            )


def _is_in_graph(graph: memoryview, nodes: int, types: frozenset[bytes] = _TYPES) -> bool:
    return any(_is_in_node(node, types) for node in protobuf.of(graph, nodes))


def _is_in_node(node: memoryview, types: frozenset[bytes]) -> bool:
    if any(bytes(each) in types for each in protobuf.of(node, 4)):
        return True
    return any(_is_in_graph(graph, 1, types) for graph in _graphs(node))


def _inputs(node: memoryview) -> set[bytes]:
    """Of a node, and of the graphs inside it, which may use any tensor outside."""
    found = {bytes(each) for each in protobuf.of(node, 1)}
    for graph in _graphs(node):
        found |= {bytes(name) for output in protobuf.of(graph, 12) for name in protobuf.of(output, 1)}
        for inner in protobuf.of(graph, 1):
            found |= _inputs(inner)
    return found


def _graphs(node: memoryview) -> list[memoryview]:
    attributes = list(protobuf.of(node, 5))
    return [field.bytes for each in attributes for field in protobuf.chosen(each, {6, 11})]
