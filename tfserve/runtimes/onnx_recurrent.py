"""Recurrent layers of ONNX files, with which ONNX Runtime ends its process if a tensor is empty."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path

from tfserve.errors import Invalid
from tfserve.runtimes import protobuf
from tfserve.tensors.specs import Array

_TYPES = frozenset({b"GRU", b"LSTM"})


def is_used(file: Path) -> bool:
    """Whether the file has such a layer, also inside a loop, a condition or a function."""
    try:
        with file.open("rb") as opened:
            content = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
        of_model = any(_is_in_graph(graph, 1) for graph in protobuf.of(content, 7))
        return of_model or any(_is_in_graph(function, 7) for function in protobuf.of(content, 25))
    except (OSError, ValueError, IndexError):  # a file of another form
        return False


def check(inputs: Mapping[str, Array]) -> None:
    """Raises `Invalid` for an empty input."""
    for name, array in inputs.items():
        if not array.size:
            raise Invalid(
                f"Input {name!r} is empty: its shape is {list(array.shape)}. The model has a recurrent layer (GRU or"
                " LSTM), which ONNX Runtime can't compute for empty tensors. Send at least one row and one step."
            )


def _is_in_graph(graph: memoryview, nodes: int) -> bool:
    return any(_is_in_node(node) for node in protobuf.of(graph, nodes))


def _is_in_node(node: memoryview) -> bool:
    if any(bytes(each) in _TYPES for each in protobuf.of(node, 4)):
        return True
    attributes = list(protobuf.of(node, 5))
    graphs = [graph for each in attributes for number in (6, 11) for graph in protobuf.of(each, number)]
    return any(_is_in_graph(graph, 1) for graph in graphs)
