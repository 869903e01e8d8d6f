"""Finds what an ONNX file reaches outside itself: external data, and operations that read files or run other code.

Weights are skipped, so that a file of any size takes milliseconds and next to no memory.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from tfserve.errors import Invalid
from tfserve.models import protobuf
from tfserve.runtimes.operation_check import files
from tfserve.runtimes.operation_check.findings import Finding

_UNSAFE = {
    "ATen": "runs PyTorch",
    "ATenGrad": "runs PyTorch",
    "EPContext": "reads a compiled program from a file",
    "PyOp": "calls Python code",
    "PythonOp": "calls Python code",
    "PythonOpGrad": "calls Python code",
    "Snpe": "reads a compiled program",
    "Triton": "runs another program",
    "TritonOp": "runs another program",
    "AzureAudioToText": "opens network connections",
    "AzureTextToText": "opens network connections",
    "AzureTritonInvoker": "opens network connections",
    "OpenAIAudioToText": "opens network connections",
}
"""Operations of ONNX Runtime and its extensions, in any domain but ONNX's own."""

_OWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_LOCATION = "location"
_EXTERNAL = 13
_PARTS = frozenset({5, 10, 6, 11, 22, 23})
"""Tensors, graphs and sparse tensors of an attribute."""


def of_file(file: Path) -> list[Finding]:
    """The unsafe operations. Raises `Invalid` for external data outside the model's folder.

    Raises `ValueError` or `IndexError` for a damaged file.
    """
    if not file.stat().st_size:
        return []
    with file.open("rb") as opened:
        content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    return list(_of_model(memoryview(content), file))  # closed with the last part of it that an error may refer to


def _of_model(model: memoryview, file: Path) -> Iterator[Finding]:
    for graph in protobuf.of(model, 7):
        yield from _of_graph(graph, file, "")
    for training in protobuf.of(model, 20):
        for number in (1, 2):
            for graph in protobuf.of(training, number):
                yield from _of_graph(graph, file, "training_info")
    for function in protobuf.of(model, 25):
        name = _text(function, 1)
        for node in protobuf.of(function, 7):
            yield from _of_node(node, file, name)
        for attribute in protobuf.of(function, 11):
            yield from _of_attribute(attribute, file, name)


def _of_graph(graph: memoryview, file: Path, function: str) -> Iterator[Finding]:
    for field in protobuf.fields(graph):
        if field.number == 1:
            yield from _of_node(field.bytes, file, function)
        elif field.number == 5:
            _check_tensor(field.bytes, file)
        elif field.number == 15:
            _check_sparse(field.bytes, file)


def _of_node(node: memoryview, file: Path, function: str) -> Iterator[Finding]:
    operation, domain = _text(node, 4), _text(node, 7)
    if operation in _UNSAFE and domain not in _OWN_DOMAINS:
        yield Finding(f"{domain}.{operation}", _text(node, 3), function, _UNSAFE[operation])
    for attribute in protobuf.of(node, 5):
        yield from _of_attribute(attribute, file, function)


def _of_attribute(attribute: memoryview, file: Path, function: str) -> Iterator[Finding]:
    for field in protobuf.chosen(attribute, _PARTS):
        if field.number in (5, 10):
            _check_tensor(field.bytes, file)
        elif field.number in (6, 11):
            yield from _of_graph(field.bytes, file, function)
        elif field.number in (22, 23):
            _check_sparse(field.bytes, file)


def _check_sparse(tensor: memoryview, file: Path) -> None:
    for number in (1, 2):
        for dense in protobuf.of(tensor, number):
            _check_tensor(dense, file)


def _check_tensor(tensor: memoryview, file: Path) -> None:
    for key, value in map(protobuf.entry, protobuf.of(tensor, _EXTERNAL)):
        name = str(value, "utf-8", "replace")
        if key == _LOCATION and files.leaves(name, file.parent, file):
            raise Invalid(
                f"{file} was not loaded: its tensor {_text(tensor, 8)!r} is stored in {name!r}, outside the model's"
                " folder. Expected: a file in the folder of the model, by a relative path. Save the model again with"
                " its external data next to it."
            )


def _text(message: memoryview, number: int) -> str:
    """The last one counts, as it does for ONNX Runtime."""
    found = ""
    for value in protobuf.of(message, number):
        found = str(value, "utf-8", "replace")
    return found
