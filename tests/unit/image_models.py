"""Small models of images, made without TensorFlow: LiteRT files field by field, ONNX files node by node."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from PIL import Image

from tfserve import runtimes
from tfserve.models import formats
from tfserve.models.formats import Located
from tfserve.runtimes.interface import Runtime
from tfserve.tensors.specs import Array


def png(pixels: Any) -> bytes:
    """A file of these values: (height, width) grey, (height, width, 3) RGB."""
    file = io.BytesIO()
    Image.fromarray(np.array(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


def as_array(*files: bytes) -> Array:
    array = np.empty(len(files), object)
    array[:] = files
    return array


def located(path: Path) -> Located:
    return formats.locate(str(path), None)


def loaded(path: Path) -> Runtime:
    return runtimes.load(located(path), device="/cpu:0")


def onnx_model(
    path: Path, nodes: Sequence[tuple[str, Sequence[str], Sequence[str], dict[str, Any]]], *,
    shape: Sequence[Any], out: Sequence[Any], dtype: str = "FLOAT", out_dtype: str = "FLOAT",
    constants: Mapping[str, Array] | None = None, properties: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    """A graph from the input `in` to the output `out`; each node is an operation, its inputs, outputs and settings."""
    from onnx import TensorProto, helper, numpy_helper, save_model

    graph = helper.make_graph(
        [helper.make_node(operation, inputs, outputs, **settings) for operation, inputs, outputs, settings in nodes],
        "g",
        [helper.make_tensor_value_info("in", getattr(TensorProto, dtype), shape)],
        [helper.make_tensor_value_info("out", getattr(TensorProto, out_dtype), out)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, dict(properties or {}))
    save_model(model, str(path))
    return path


def litert_copy(
    path: Path, *, shape: Sequence[int], dtype: str, quantization: tuple[Sequence[float], Sequence[int]] | None,
    metadata: bytes = b"", files: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    """A LiteRT file that gives back its input as a row: integers of `dtype`, or floats."""
    from ai_edge_litert import schema_py_generated as schema

    size = int(np.prod(shape[1:]))
    code, operator, graph, model = schema.OperatorCodeT(), schema.OperatorT(), schema.SubGraphT(), schema.ModelT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE
    code.version = 1
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 2], [1]
    operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    operator.builtinOptions = schema.ReshapeOptionsT()
    operator.builtinOptions.newShape = [-1, size]
    kind = getattr(schema.TensorType, dtype.upper())
    into = _tensor(schema, "new_shape", [2], schema.TensorType.INT32, buffer=1)
    graph.tensors = [
        _tensor(schema, "image", shape, kind, quantization=quantization),
        _tensor(schema, "scores", [shape[0], size], kind, quantization=quantization),
        into,
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [1], [operator]
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [_buffer(schema, b""), _buffer(schema, np.array([-1, size], np.int32).tobytes())]
    if metadata:
        entry = schema.MetadataT()
        entry.name, entry.buffer = "TFLITE_METADATA", 2
        model.metadata = [entry]
        model.buffers.append(_buffer(schema, metadata))
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    content = io.BytesIO(bytes(builder.Output()))
    if files:
        with zipfile.ZipFile(content, "a") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
    path.write_bytes(content.getvalue())
    return path


def _tensor(
    schema: Any, name: str, shape: Sequence[int], kind: int, *, buffer: int = 0,
    quantization: tuple[Sequence[float], Sequence[int]] | None = None,
) -> Any:  # fmt: skip
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), kind, buffer
    if quantization is not None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = map(list, quantization)
    return tensor


def _buffer(schema: Any, data: bytes) -> Any:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    return buffer
