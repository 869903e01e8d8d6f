"""Reads the quantization of an ONNX model's inputs and outputs from its graph, without another library.

An input is quantized where the graph begins by dequantizing it, an output where the graph ends by quantizing it, with
constants; operations that only move values may lie between.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from tfserve.models import protobuf
from tfserve.tensors.specs import Array, Quantization, TensorSpec

MOVING = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
READS = {"DequantizeLinear": 1, "QLinearConv": 1, "QLinearMatMul": 1}
"""Operations with a quantized first input, and which of their inputs is its scale; the zero point is the next one."""
WRITES = {"QuantizeLinear": 1, "QLinearConv": 6, "QLinearMatMul": 6}
"""Operations with a quantized output, and which of their inputs is its scale."""

INTEGERS = frozenset({"int8", "uint8", "int16", "uint16"})
TYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 10: "float16", 11: "float64"}
"""ONNX's numbers of the types that scales and zero points have."""


class _Node(NamedTuple):
    operation: str
    inputs: list[str]
    outputs: list[str]


def added(specs: Sequence[TensorSpec], file: Path) -> list[TensorSpec]:
    """The specs of an ONNX file's tensors, with their quantization."""
    if not any(spec.dtype in INTEGERS for spec in specs):
        return list(specs)  # without reading what may be gigabytes
    found = of_tensors(file.read_bytes())
    return [
        msgspec.structs.replace(spec, quantization=found.get(spec.name)) if spec.dtype in INTEGERS else spec
        for spec in specs
    ]


def of_tensors(content: bytes) -> dict[str, Quantization]:
    """The quantization of inputs and outputs of a model, by name; {} if the file is damaged."""
    try:
        (graph,) = protobuf.of(memoryview(content), 7)
        nodes = [_node(data) for data in protobuf.of(graph, 1)]
        constants = dict(_constants(graph))
        inputs, outputs = ({protobuf.entry(data)[0] for data in protobuf.of(graph, field)} for field in (11, 12))
        return {**_of_inputs(inputs, nodes, constants), **_of_outputs(outputs, nodes, constants)}
    except (ValueError, IndexError, KeyError, struct.error):
        return {}


def _of_inputs(names: set[str], nodes: list[_Node], constants: Mapping[str, Array]) -> dict[str, Quantization]:
    origin = {name: name for name in names}
    found: dict[str, Quantization] = {}
    for node in nodes:  # in the order of computation
        source = origin.get(node.inputs[0]) if node.inputs else None
        if source is None:
            continue
        if node.operation in MOVING:
            origin[node.outputs[0]] = source
        elif (read := _quantization(node, READS, constants)) is not None:
            found.setdefault(source, read)
    return found


def _of_outputs(names: set[str], nodes: list[_Node], constants: Mapping[str, Array]) -> dict[str, Quantization]:
    target = {name: name for name in names}
    found: dict[str, Quantization] = {}
    for node in reversed(nodes):
        output = target.get(node.outputs[0]) if node.outputs else None
        if output is None:
            continue
        if node.operation in MOVING:
            target[node.inputs[0]] = output
        elif (written := _quantization(node, WRITES, constants)) is not None:
            found[output] = written
    return found


def _quantization(node: _Node, scales: Mapping[str, int], constants: Mapping[str, Array]) -> Quantization | None:
    """Of the whole tensor; None for an operation without constant parameters."""
    at = scales.get(node.operation)
    if at is None or len(node.inputs) <= at or node.inputs[at] not in constants:
        return None
    scale = constants[node.inputs[at]]
    name = node.inputs[at + 1] if len(node.inputs) > at + 1 else ""
    if (name and name not in constants) or scale.size != 1:
        return None
    zero_point = constants[name] if name else np.zeros(1, np.int64)
    return Quantization(float(scale.reshape(-1)[0]), int(zero_point.reshape(-1)[0]))


def _node(data: memoryview) -> _Node:
    inputs, outputs = ([str(name, "utf-8") for name in protobuf.of(data, field)] for field in (1, 2))
    return _Node(next((str(name, "utf-8") for name in protobuf.of(data, 4)), ""), inputs, outputs)


def _constants(graph: memoryview) -> Iterator[tuple[str, Array]]:
    """Small initializers, and the values of `Constant` nodes."""
    for data in protobuf.of(graph, 5):
        if (value := _tensor(data)) is not None:
            yield next((str(name, "utf-8") for name in protobuf.of(data, 8)), ""), value
    for data in protobuf.of(graph, 1):
        node = _node(data)
        if node.operation == "Constant":
            for tensor in (tensor for attribute in protobuf.of(data, 5) for tensor in protobuf.of(attribute, 5)):
                if (value := _tensor(tensor)) is not None:
                    yield node.outputs[0], value


def _tensor(data: memoryview) -> Array | None:
    """A single number; None for any other tensor."""
    fields = list(protobuf.fields(data))
    dtype = TYPES.get(next((field.value for field in fields if field.number == 2), 0))
    sizes = [field.value for field in fields if field.number == 1 and not len(field.bytes)]
    if dtype is None or any(size != 1 for size in sizes):
        return None
    for field in fields:
        if field.number in (4, 9):
            numbers = np.frombuffer(field.bytes, dtype if field.number == 9 else np.float32)
            return numbers if numbers.size == 1 else None
        if field.number == 5:
            return _signed(field)
    return None


def _signed(field: protobuf.Field) -> Array:
    """The number in a field of int32, packed or not."""
    value = field.value
    if len(field.bytes):
        value = next(protobuf.fields(memoryview(b"\x08" + bytes(field.bytes)))).value
    return np.array([value - (1 << 64) if value >> 63 else value])
